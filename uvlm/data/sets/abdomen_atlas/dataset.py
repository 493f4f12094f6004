"""AbdomenAtlas 3.0 Mini from the hub: first its tables, then the archives with wanted CTs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, get_args

from uvlm import store
from uvlm.config import AbdomenAtlasConfig
from uvlm.data.sets.abdomen_atlas import layout
from uvlm.data.sets.abdomen_atlas.archives import unpack_all
from uvlm.data.sets.abdomen_atlas.cases import MASKS, AtlasLayout
from uvlm.data.sets.abdomen_atlas.tables import read_atlas, read_ids
from uvlm.data.sets.dataset import Label
from uvlm.data.sets.hub import Hub, Snapshot
from uvlm.data.sets.selection import Selection, choose, excluded_by_user
from uvlm.data.sets.survey import Expected, FileKind, Survey
from uvlm.store import CaseProgress


@dataclass(frozen=True)
class AbdomenAtlas(AtlasLayout):
    """The abdominal data set; patients are ordered by id, whatever the seed."""

    config: AbdomenAtlasConfig
    seed: int
    hub: Hub = field(default_factory=Hub)
    masks: ClassVar = MASKS

    def fetch(
        self, manifest: Path, label: Label, progress: CaseProgress | None = None, code: str = ""
    ) -> None:
        """Fetch tables, CTs and masks."""
        atlas = Snapshot.of(self.hub, layout.REPO, self.config.revision, layout.PREFIX)
        tables = (layout.TABLE, layout.TRAIN_IDS, layout.TEST_IDS)
        rows = atlas.rows(tables, "AbdomenAtlas tables", progress)
        wanted, selection = self._select(atlas.folder)
        for kind in get_args(layout.Kind):
            if kind == "images" or self.config.masks:
                rows += unpack_all(atlas, kind, wanted, progress)
        store.write_manifest(manifest, [*rows, selection.keep()])

    def survey(self, progress: CaseProgress | None = None) -> Survey:
        """Fetch the tables and ask for the sizes of the archives, which hold more than is kept."""
        atlas = Snapshot.of(self.hub, layout.REPO, self.config.revision, layout.PREFIX)
        tables = (layout.TABLE, layout.TRAIN_IDS, layout.TEST_IDS)
        atlas.fetch(tables, "AbdomenAtlas tables", progress)
        wanted, _ = self._select(atlas.folder)
        test = read_ids(atlas.folder / layout.TEST_IDS)
        kinds = get_args(layout.Kind) if self.config.masks else ("images",)
        files = []
        for kind in kinds:
            archives = sorted({layout.archive(kind, case) for case in wanted})
            # A smaller selection keeps its share of the archives; one more is there for a while.
            sizes = atlas.sizes(archives)
            share = min(1.0, len(wanted) / (layout.PER_ARCHIVE * len(archives) or 1))
            kept = round(share * sum(sizes)) + max(sizes, default=0)
            files.append(FileKind(f"{kind}, from archives", len(archives), kept, len(archives)))
        good, _ = read_atlas(atlas.folder / layout.TABLE, self.config.report)
        flags = {row.case_id: row.lesions for row in good}
        cases = [
            # The published masks draw the lesions of every CT.
            Expected(case, "test" if case in test else "train", self.config.masks, flags[case])
            for case in wanted
        ]
        return Survey(cases, files)

    @property
    def report(self) -> str:
        """Which of the four reports to learn, as params.yaml says."""
        return self.config.report

    def _select(self, folder: Path) -> tuple[list[str], Selection]:
        """Choose CTs of the official parts in the order of their ids: few archives hold them."""
        good, _ = read_atlas(folder / layout.TABLE, self.config.report)
        names = {row.case_id: [row.case_id, layout.image(row.case_id)] for row in good}
        excluded = excluded_by_user(self.config, names)
        chosen: set[str] = set()
        for ids, choice, part in (
            (layout.TRAIN_IDS, self.config.train, "train"),
            (layout.TEST_IDS, self.config.test, "test"),
        ):
            there = sorted(set(read_ids(folder / ids)) & names.keys())
            chosen |= choose(there, choice, f"download.abdomen_atlas.{part}")
        wanted = sorted(chosen - excluded.keys())
        return wanted, Selection(frozenset(wanted), excluded)
