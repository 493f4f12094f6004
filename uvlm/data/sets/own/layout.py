"""Where a user's own data lie in the data set that the index reads.

own/table.csv        the user's table, byte for byte
own/labels.csv       flags from a labeller, in CT-RATE's form, if the table has none
own/faults.json      rows whose CT was not found, or found more than once
own/cts/p01.nii.gz   a copy of each CT; a DICOM series is a folder: own/cts/p02/00001.dcm
"""

from __future__ import annotations

from typing import Final

TABLE: Final = "own/table.csv"
LABELS: Final = "own/labels.csv"
FAULTS: Final = "own/faults.json"
CTS: Final = "own/cts/"
# What the reader accepts; a folder of DICOM files has no suffix.
SUFFIXES: Final = (".nii.gz", ".nii", ".nrrd", ".mha")


def without_suffix(name: str) -> str:
    """Strip the suffix of an image file."""
    suffix = next((s for s in SUFFIXES if name.lower().endswith(s)), "")
    return name[: len(name) - len(suffix)]


def ct_of(path: str) -> str:
    """Name the CT that a file belongs to; empty if there is none."""
    name, _, inside = path.partition(CTS)[2].partition("/")
    return name if inside else without_suffix(name)
