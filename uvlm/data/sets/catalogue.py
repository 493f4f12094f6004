"""The sources that `download.source` can name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from uvlm.config import Params, PhantomConfig
from uvlm.data.sets.abdomen_atlas.fetch import AbdomenAtlas
from uvlm.data.sets.ct_rate.fetch import CtRate
from uvlm.data.sets.hub import Hub
from uvlm.data.sets.own.fetch import Folder, Label
from uvlm.data.sets.phantom.dataset import write_dataset
from uvlm.data.sets.source import Source
from uvlm.store import CaseProgress


@dataclass(frozen=True)
class Phantom:
    """Written from a seed, not fetched."""

    config: PhantomConfig
    seed: int
    code: str = ""

    def fetch(self, manifest: Path, progress: CaseProgress | None = None) -> None:
        """Write the phantoms."""
        write_dataset(self.config, self.seed, manifest, progress, self.code)


def get_source(params: Params, label: Label, code: str = "") -> Source:
    """Choose the source that `download.source` names.

    Args:
        params: reads `download` and `seed`.
        label: labels reports; only asked when a person's own table has no labels.
        code: digest of the stage's code, which the phantoms are held against.
    """
    config, seed = params.download, params.seed
    if config.source == "ct_rate" and config.ct_rate:
        return CtRate(config.ct_rate, seed, Hub())
    if config.source == "abdomen_atlas" and config.abdomen_atlas:
        return AbdomenAtlas(config.abdomen_atlas, Hub())
    if config.source == "folder" and config.folder:
        return Folder(config.folder, label)
    assert config.phantom is not None  # DownloadConfig has seen to it
    return Phantom(config.phantom, seed, code)
