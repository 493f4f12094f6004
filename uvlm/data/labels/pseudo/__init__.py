"""Anatomical pseudo-labels: one kind at a time, on the CT's own grid, in canonical order.

    kind      ids stored                                          besides `phantom` and `none`
    anatomy   TotalSegmentator `total`, 1 to 117                  totalsegmentator, ct_rate_masks
              AbdomenAtlas, in the order of schemes/abdomen.json  abdomen_atlas_masks
    airway    TotalSegmentator `lung_vessels`: 1 lumen, 2 wall    totalsegmentator, atm22
    vessel    TotalSegmentator `lung_vessels`: 3 artery, 4 vein   totalsegmentator, masks

`totalsegmentator` draws airways and vessels in one run: both manifests name the same array, and
each reader picks the ids of its kind. params.yaml names the backend; see docs/pseudo_labels.md.
"""
