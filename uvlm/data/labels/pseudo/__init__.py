"""Anatomical pseudo-labels: one kind for every case, in the CT's own grid, in canonical order.

    kind      ids stored                                          besides `phantom` and `none`
    anatomy   TotalSegmentator `total`, 1 to 117                  totalsegmentator, ct_rate_masks
              AbdomenAtlas, in the order of schemes/abdomen.json  abdomen_atlas_masks
    airway    TotalSegmentator `lung_vessels`: 1 lumen, 2 wall    totalsegmentator, atm22
    vessel    TotalSegmentator `lung_vessels`: 3 artery, 4 vein   totalsegmentator, masks

`totalsegmentator` gives airway and vessel from one run: both manifests name the same array, and
who reads it picks the ids of its kind. params.yaml names the backend; see docs/pseudo_labels.md.
"""

from __future__ import annotations

from uvlm.data.labels.pseudo.backend import Annotator, Backend, Provenance
from uvlm.data.labels.pseudo.backends import choose_backend
from uvlm.data.labels.pseudo.stage import run, run_shard

__all__ = ["Annotator", "Backend", "Provenance", "choose_backend", "run", "run_shard"]
