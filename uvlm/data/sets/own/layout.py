"""Where a user's own data lie in the data set that the index reads.

own/table.csv        the user's table, byte for byte
own/labels.csv       flags from a labeller, in CT-RATE's form, if the table has none
own/faults.json      rows whose CT was not found, or found more than once
own/read.json        what was read for each CT and left out beside it, naming nobody
own/cts/p01.nii.gz   a copy of each CT; a DICOM series is a folder: own/cts/p02/00001.dcm
"""

from __future__ import annotations

from typing import Final

from uvlm.data.ct.find import without_suffix

TABLE: Final = "own/table.csv"
LABELS: Final = "own/labels.csv"
FAULTS: Final = "own/faults.json"
READ: Final = "own/read.json"
CTS: Final = "own/cts/"


def ct_of(path: str) -> str:
    """Name the CT that a file belongs to; empty if there is none."""
    name, _, inside = path.partition(CTS)[2].partition("/")
    return name if inside else without_suffix(name)
