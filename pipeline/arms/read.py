"""Arms as conf/arm/ states them: what a row of a table means, for every profile alike.

`table5_08.yaml` is row 8 of Table 5. A group is what comes before the last `_`: the rows of one
table, or arms that are in none, such as `choices`. A file `same_as: table5_09` says that a row is
the same training as another one, as Table 2's own row is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field

from pipeline.profiles import read_document
from uvlm.config import Section, parse_section
from uvlm.errors import ConfigError

METHOD: Final = "_method"  # what all arms have in common
_ROW: Final = re.compile(r"table(\d)_(\d\d)")


class Meaning(Section):
    """What an arm is, in the words of the paper's tables.

    ends_after: `classification` for Table 4, whose test probabilities are scored without a decoder.
    segmentation: the classes of stage 1, or none: the encoder starts from random weights.
    classification: whether stage 2 trains encoder and classifier.
    skip_connections: whether every encoder stage feeds a language layer (eq. 5), or only the input.
    encoder: whether stage 3 trains it too.
    visual_tokens: how many times those of the deepest stage.
    decoder: our own in the profile's size, or Qwen3.
    pooling: as is usual for the profile's CTs, or the other one.
    shuffled: what training takes from another patient, as a negative control.
    """

    ends_after: Literal["classification", "report"]
    segmentation: Literal["none", "coarse", "coarse_lesion", "fine_lesion"]
    classification: bool
    skip_connections: bool
    encoder: Literal["frozen", "trained"]
    visual_tokens: int = Field(ge=1)
    decoder: Literal["scratch", "qwen3_lora", "qwen3_full"]
    pooling: Literal["usual", "other"] = "usual"
    deeper: Literal["zeros", "interpolated"] = "zeros"
    position: Literal["before_layer", "after_attention"] = "before_layer"
    shuffled: Literal["nothing", "labels", "reports"] = "nothing"


class _Same(Section):
    same_as: str


@dataclass(frozen=True)
class Arm:
    """One file of conf/arm/; `trained_as` is the arm whose training this one is, mostly itself."""

    name: str
    meaning: Meaning
    trained_as: str

    @property
    def group(self) -> str:
        """What `uvlm sweep` calls the arms that belong together."""
        return self.name.rpartition("_")[0]

    @property
    def row(self) -> tuple[int, int] | None:
        """Table and row of the paper, if the arm is one."""
        match = _ROW.fullmatch(self.name)
        return (int(match[1]), int(match[2])) if match else None

    @property
    def last_stage(self) -> str:
        """The stage of dvc.yaml that scores the arm."""
        return "classify" if self.meaning.ends_after == "classification" else "evaluate"


def arm_names(root: Path) -> list[str]:
    """List the arms of conf/arm/."""
    return sorted(p.stem for p in (root / "conf" / "arm").glob("*.yaml") if p.stem != METHOD)


def read_arm(root: Path, name: str) -> Arm:
    """Read one arm.

    Raises:
        ConfigError: there is no such arm, a key is unknown, missing or wrong, or it is the same as
            an arm that is itself the same as another.
    """
    document = _document(root, name)
    if "same_as" not in document:
        return Arm(name, _meaning(root, name, document), name)
    other = parse_section(_Same, document, _path(name)).same_as
    found = read_arm(root, other)
    if found.trained_as != other:
        raise ConfigError(_path(name), f"same_as {other}, which is same_as another", "name that")
    return Arm(name, found.meaning, other)


def read_arms(root: Path, chosen: str) -> list[Arm]:
    """Read the arms of a group such as `table5`, or the one arm of this name."""
    names = arm_names(root)
    wanted = [chosen] if chosen in names else [n for n in names if n.rpartition("_")[0] == chosen]
    if not wanted:
        groups = sorted({name.rpartition("_")[0] for name in names})
        fact = "no arm and no group of arms"
        raise ConfigError(chosen, fact, f"choose {', '.join(groups)}, or a file of conf/arm/")
    return [read_arm(root, name) for name in wanted]


def read_method(root: Path) -> dict[str, Any]:
    """Read the keys of the method that all arms have in common, dotted."""
    return _document(root, METHOD)


def _meaning(root: Path, name: str, document: dict[str, Any]) -> Meaning:
    remedy = f"correct {_path(name)}; docs/arms.md explains each key"
    return parse_section(Meaning, document, _path(name), remedy)


def _document(root: Path, name: str) -> dict[str, Any]:
    from ruamel.yaml.error import YAMLError

    path = root / _path(name)
    try:
        document: Any = read_document(path)
    except FileNotFoundError:
        raise ConfigError(f"arm {name}", "no such arm", f"choose a file of {path.parent}") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(_path(name), f"not readable as YAML ({error})", "correct it") from None
    if not isinstance(document, dict):
        raise ConfigError(_path(name), "holds no keys", "docs/arms.md explains each key")
    return document


def _path(name: str) -> Path:
    return Path("conf") / "arm" / f"{name}.yaml"
