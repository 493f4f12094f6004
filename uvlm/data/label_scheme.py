"""Which classes a segmentation network separates, and how published ids fold into them.

A data set has fine classes: background 0, then anatomy, then lesion categories. A scheme keeps or
merges them:

    coarse          organs; lesions count as the organ they lie in     chest 16, abdomen 13
    coarse_lesion   organs, and every lesion category by itself        chest 30, abdomen 16
    fine_lesion     every fine class                                   chest 49, abdomen 42

The tables are in schemes/*.json; ids follow their order. Voxels whose class nobody knows carry
IGNORE_ID in every scheme: they are no class, and no part of any loss or score.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from uvlm.arrays import Ids
from uvlm.errors import ConfigError

Dataset = Literal["chest", "abdomen"]
SchemeName = Literal["coarse", "coarse_lesion", "fine_lesion"]
_BACKGROUND = "background"
IGNORE_ID: Final = 255  # the class is unknown: neither trained on nor scored


@dataclass(frozen=True, eq=False)
class FineClasses:
    """The fine classes of a data set and the published ids that fold into them.

    `coarse` is the organ of every class; a lesion lies in its organ, unless it is one of
    `lesions_anywhere`. `total`, `airway` and `vessel` are tables over the ids of TotalSegmentator's
    tasks `total` and `lung_vessels`: the fine id of each, 0 if it is not wanted. `anatomy` is the
    table of the anatomy labels: `total`, or for a set published with its own masks (its lesions
    among them) the identity.
    """

    names: tuple[str, ...]
    coarse: tuple[str, ...]
    anatomy_ids: frozenset[int]
    lesion_id_by_category: dict[str, int]
    lesion_paint_order: tuple[int, ...]
    lesions_anywhere: frozenset[int]
    total: Ids
    anatomy: Ids
    airway: Ids
    vessel: Ids
    tubes_paint_over: npt.NDArray[np.bool_]
    lesions_hide_in: npt.NDArray[np.bool_]
    one_piece: frozenset[int]
    lesions_come_with_anatomy: bool


@dataclass(frozen=True, eq=False)
class LabelScheme:
    """The classes of one scheme; `lut` holds the scheme's id of every fine id."""

    dataset: Dataset
    name: SchemeName
    names: tuple[str, ...]
    anatomy_ids: frozenset[int]
    lesion_ids: frozenset[int]
    lut: Ids

    @property
    def num_classes(self) -> int:
        """Count the classes, background included."""
        return len(self.names)

    def fold(self, fine_ids: Ids) -> Ids:
        """Fold fine ids into this scheme; ignored voxels stay ignored."""
        table = np.pad(self.lut, (0, 256 - len(self.lut)))
        table[IGNORE_ID] = IGNORE_ID
        return look_up(table, fine_ids)

    def fold_total(self, array: npt.NDArray[Any]) -> Ids:
        """Fold TotalSegmentator `total` ids into this scheme."""
        table = fine_classes(self.dataset).total
        if not table.any():
            fact = "has no counterpart of TotalSegmentator's classes"
            raise ConfigError(f"label scheme {self.dataset}", fact)
        return look_up(self.lut, look_up(table, array))


@dataclass(frozen=True)
class LesionSite:
    """A lesion class of a scheme, and where a voxel of it has to lie to be plausible.

    `organ_ids` are the classes of the organ's own tissue, `organ_lesion_ids` those of all lesions
    in it; both are empty for a lesion that may lie anywhere. `category` is its published name.
    """

    class_id: int
    name: str
    category: str
    organ: str
    organ_ids: frozenset[int]
    organ_lesion_ids: frozenset[int]


def lesion_sites(classes: LabelScheme) -> list[LesionSite]:
    """List the lesions that a scheme separates, in the order of the data set's columns."""
    fine = fine_classes(classes.dataset)
    if not classes.lesion_ids:
        return []

    def ids(fine_ids: frozenset[int], organ: str) -> frozenset[int]:
        return frozenset(int(classes.lut[n]) for n in fine_ids if fine.coarse[n] == organ)

    inside = frozenset(fine.lesion_id_by_category.values()) - fine.lesions_anywhere
    sites = []
    for category, number in fine.lesion_id_by_category.items():
        organ = fine.coarse[number] if number in inside else ""
        own, lesions = ids(fine.anatomy_ids, organ), ids(inside, organ)
        class_id, name = int(classes.lut[number]), fine.names[number]
        sites.append(LesionSite(class_id, name, category, organ, own, lesions))
    return sites


def look_up(table: Ids, array: npt.NDArray[Any]) -> Ids:
    """Replace every id by its entry; ids beyond the table become background."""
    whole = np.pad(table, (0, 256 - len(table)))
    if array.ndim < 3:
        few: Ids = whole.take(array)
        return few
    replaced = np.empty(array.shape, table.dtype)
    # Plane by plane: NumPy makes an index of eight bytes of every id.
    for plane, ids in zip(replaced, array, strict=True):
        plane[...] = whole.take(ids)
    return replaced


@cache
def scheme(dataset: Dataset, name: SchemeName) -> LabelScheme:
    """Build the scheme of a data set."""
    fine = fine_classes(dataset)
    document = _document(dataset)
    organs = [_BACKGROUND, *document["coarse"]]
    first_lesion = 1 + len(fine.anatomy_ids)
    names, ids = tuple(organs), [organs.index(organ) for organ in fine.coarse]
    if name == "fine_lesion":
        names, ids = fine.names, list(range(len(fine.names)))
    elif name == "coarse_lesion":
        names += fine.names[first_lesion:]
        ids[first_lesion:] = range(len(organs), len(names))
    lut = np.array(ids, np.uint8)
    lesion_ids = frozenset(map(int, lut[first_lesion:])) if name != "coarse" else frozenset()
    anatomy_ids = frozenset(map(int, lut[1:first_lesion]))
    return LabelScheme(dataset, name, names, anatomy_ids, lesion_ids, lut)


@cache
def fine_classes(dataset: Dataset) -> FineClasses:
    """Read the fine classes of a data set."""
    document = _document(dataset)
    published = _document("totalsegmentator")
    anatomy, lesions = document["anatomy"], document["lesions"]
    names = (_BACKGROUND, *(entry["name"] for entry in (*anatomy, *lesions)))
    id_by_category = {
        lesion["category"]: number for number, lesion in enumerate(lesions, 1 + len(anatomy))
    }
    own = document["published_anatomy"] == "own"
    name_by_total = {source: entry["name"] for entry in anatomy for source in entry["total"]}
    total = _table(published["total"], name_by_total, names)
    return FineClasses(
        names=names,
        coarse=(_BACKGROUND, *(entry["coarse"] for entry in (*anatomy, *lesions))),
        anatomy_ids=frozenset(range(1, 1 + len(anatomy))),
        lesion_id_by_category=id_by_category,
        lesion_paint_order=tuple(id_by_category[c] for c in document["lesion_paint_order"]),
        lesions_anywhere=frozenset(id_by_category[c] for c in document["lesions_anywhere"]),
        total=total,
        anatomy=np.arange(len(names), dtype=np.uint8) if own else total,
        airway=_table(published["lung_vessels"], document["airway"], names),
        vessel=_table(published["lung_vessels"], document["vessel"], names),
        tubes_paint_over=_marked([_BACKGROUND, *document["tubes_paint_over"]], names),
        lesions_hide_in=_marked(document["lesions_hide_in"], names),
        one_piece=frozenset(names.index(name) for name in document["one_piece"]),
        lesions_come_with_anatomy=own,
    )


def _marked(wanted: list[str], names: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    """Mark the ids of some classes in a table of all ids."""
    table = np.zeros(256, bool)
    table[[names.index(name) for name in wanted]] = True
    return table


def _table(published: list[str], wanted: dict[str, str], names: tuple[str, ...]) -> Ids:
    """Tabulate the fine id of every published id."""
    ids = (names.index(wanted[p]) if p in wanted else 0 for p in published)
    return np.array([0, *ids], np.uint8)


@cache
def _document(name: str) -> dict[str, Any]:
    text = files("uvlm.data").joinpath("schemes", f"{name}.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document
