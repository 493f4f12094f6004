"""Which trials `uvlm sweep NAME` means: arms of conf/arm/, or a list of the reader's own.

A list is conf/sweep/NAME.yaml:

    base: {train_seg.steps: 400}            what all arms have instead of the profile's values
    arms:
      plain: {}                             an arm for each name, with what only it changes
      no_pooling: {injection.pooling: max}

    arms_of: [table4, table5_09]            arms of conf/arm/, by group or name, on these values

Keys are dotted as in params.yaml. Every arm is composed and validated before anything runs.
conf/arm/ holds the rows of the paper's tables; pipeline/arms/ says what they mean for a profile.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field

from pipeline.arms.resolve import NOTHING, compose_arms
from pipeline.profiles import compose, read_document, with_values
from pipeline.sweep.trial import Trial, check_names
from uvlm.config import Section, parse_params, parse_section
from uvlm.errors import ConfigError


class ArmList(Section):
    """One file of conf/sweep/."""

    base: dict[str, Any] = Field(default_factory=dict)
    arms: dict[str, dict[str, Any]] = Field(default_factory=dict)
    arms_of: tuple[str, ...] = ()


def read_trials(root: Path, name: str, profile: str, num_seeds: int) -> list[Trial]:
    """Compose every arm with the seeds 0, 1, ..., each seed of all arms before the next.

    Raises:
        ConfigError: no such list or arm, a key or value of it is wrong, or two arms are the same.
    """
    path = Path("conf") / "sweep" / f"{name}.yaml"
    is_listed = (root / path).is_file()
    first = _listed(root, path, profile) if is_listed else _of_tables(root, name, profile)
    trials = [_with_seed(trial, seed) for seed in range(num_seeds) for trial in first]
    check_names(trials)
    return trials


def _listed(root: Path, path: Path, profile: str) -> list[Trial]:
    """Compose a list of the reader's own."""
    listed, document = _read(root, path), compose(root, profile)
    _refuse_seed(path, listed)
    base = with_values(document, listed.base, path)
    of_tables = [t for name in listed.arms_of for t in _of_tables(root, name, profile, listed.base)]
    own = [_compose(path, arm, changes, base) for arm, changes in listed.arms.items()]
    if not (trials := [*of_tables, *own]):
        raise ConfigError(path, "holds no arm", "give it `arms:` or `arms_of:`")
    _refuse_equals(path, trials)
    return trials


def _of_tables(
    root: Path, name: str, profile: str, instead: Mapping[str, Any] = NOTHING
) -> list[Trial]:
    """Compose arms of conf/arm/, and tell of those that the profile cannot run."""
    possible, others = compose_arms(root, name, profile, 0, instead)
    for error in others:
        sys.stderr.write(f"left out: {error}\n")
    return [
        Trial(
            table=composed.arm.group,
            row=str(composed.arm.row[1]) if composed.arm.row else "",
            arm=composed.arm.name,
            profile=profile,
            seed=0,
            document=composed.document,
            last_stage=composed.arm.last_stage,
            notes=composed.notes,
        )
        for composed in possible
    ]


def _with_seed(trial: Trial, seed: int) -> Trial:
    return replace(trial, seed=seed, document={**trial.document, "seed": seed})


def _read(root: Path, path: Path) -> ArmList:
    from ruamel.yaml.error import YAMLError

    try:
        document: Any = read_document(root / path)
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(path, f"not readable as YAML ({error})", "correct it") from None
    if not isinstance(document, dict):
        raise ConfigError(path, "holds no keys", "give it `arms:` or `arms_of:`")
    return parse_section(ArmList, document, path)


def _compose(path: Path, arm: str, values: dict[str, Any], base: dict[Any, Any]) -> Trial:
    changed = with_values(base, values, path)
    params = parse_params(changed, f"{path}, arm {arm}")
    return Trial(path.stem, arm, arm, params.profile, params.seed, changed)


def _refuse_seed(path: Path, listed: ArmList) -> None:
    for name, values in {"base": listed.base, **listed.arms}.items():
        if "seed" in values:
            raise ConfigError(path, f"{name} sets the seed", "leave it out; --seeds counts them")


def _refuse_equals(path: Path, trials: list[Trial]) -> None:
    for number, trial in enumerate(trials):
        for other in trials[:number]:
            if (trial.document, trial.last_stage) == (other.document, other.last_stage):
                fact = f"{trial.arm} and {other.arm} have the same parameters"
                raise ConfigError(path, fact, "remove one of them")
