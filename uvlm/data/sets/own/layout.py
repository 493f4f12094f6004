"""Where a person's own data lie in the data set that the index reads.

own/table.csv        the person's table, byte for byte
own/labels.csv       flags of a labeller, in CT-RATE's form, when the table has none
own/faults.json      rows whose CT was not found, or not found once
own/cts/p01.nii.gz   a copy of each CT; a DICOM series is a folder: own/cts/p02/00001.dcm
"""

from __future__ import annotations

from typing import Final

TABLE: Final = "own/table.csv"
LABELS: Final = "own/labels.csv"
FAULTS: Final = "own/faults.json"
CTS: Final = "own/cts/"
