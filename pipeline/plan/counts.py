"""How many cases or steps each stage will have, from what the tables of the data set say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from uvlm.config import Params
from uvlm.data.cases import gets_label_map
from uvlm.data.sets.survey import Expected, Survey

TRAININGS: Final = ("train_seg", "train_cls", "train_report")
_OF_ALL: Final = ("preprocess", "encode")
_OF_LABELLED: Final = ("pseudo_label", "label_maps")


def count_by_stage(params: Params, survey: Survey, stages: Iterable[str]) -> dict[str, int]:
    """Count the steps of the trainings and the cases of the other stages that work on cases."""
    known = {
        **dict.fromkeys(_OF_ALL, len(survey.cases)),
        **dict.fromkeys(_OF_LABELLED, len(labelled(params, survey))),
        **{name: getattr(params, name).steps for name in TRAININGS},
        **dict.fromkeys(("generate", "evaluate"), _in_test(survey.cases)),
    }
    return {stage: known[name] for stage in stages if (name := stage.partition("@")[0]) in known}


def labelled(params: Params, survey: Survey) -> list[Expected]:
    """Choose the cases that get a label map, by the rule of the index."""
    rule = params.label_maps.cases
    return [case for case in survey.cases if gets_label_map(rule, case.is_drawn, case.flags)]


def split_of(survey: Survey, params: Params) -> Mapping[str, int]:
    """Divide the cases as the index will, which draws the validation patients."""
    test = _in_test(survey.cases)
    train = len(survey.cases) - test
    val = round(params.index.val_fraction * train)
    return {"train": train - val, "val": val, "test": test}


def _in_test(cases: Iterable[Expected]) -> int:
    return sum(case.split == "test" for case in cases)
