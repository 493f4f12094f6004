"""One abdominal phantom on disk: the CT, a mask for every structure, and its row of the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from uvlm.config import AbdomenPhantomConfig
from uvlm.data.ct import io
from uvlm.data.ct.volume import LabelMap, Volume
from uvlm.data.sets.abdomen_atlas.layout import PREFIX, image, mask
from uvlm.data.sets.phantom.anatomy import Mask
from uvlm.data.sets.phantom.frame import draw_frame, native_shape
from uvlm.data.sets.phantom.scan import reconstruct
from uvlm.data.sets.phantom.written import Member, Record
from uvlm.data.sets.phantom_abdomen.anatomy import ID, LIVER, PANCREAS
from uvlm.data.sets.phantom_abdomen.reports import Measured, lesion_counts, write_report
from uvlm.data.sets.phantom_abdomen.scan import SITES, AbdomenScan, draw_scan
from uvlm.seeding import generator
from uvlm.store import array_sha256


def write_patient(config: AbdomenPhantomConfig, seed: int, root: Path, member: Member) -> Record:
    """Draw one patient from the seed and write all its files below `root`."""
    draws = generator(seed, "phantom_abdomen", member.case_id)
    scan = draw_scan(config, native_shape(config.shape, draws), draws)
    frame = draw_frame(scan.hu.shape, draws)
    hu = reconstruct(scan.hu, config.noise_hu, draws)
    z, y, x = (float(size) for size in np.linalg.norm(frame.affine[:3, :3], axis=0))
    report = write_report(Measured(scan, hu, (z, y, x)))
    affine = frame.axes.stored_affine(frame.affine, hu.shape)
    array: Any = frame.axes.backward(hu)
    path = f"{PREFIX}/{image(member.case_id)}"
    io.write_volume(root / path, Volume(array, affine))
    files = [(path, array_sha256(array))]
    for name, drawn in masks_of(scan).items():
        array = frame.axes.backward(drawn.astype(np.uint8))
        path = f"{PREFIX}/{mask(member.case_id, name)}"
        io.write_label_map(root / path, LabelMap(array, affine))
        files.append((path, array_sha256(array)))
    return {
        "case": member.case_id,
        "files": files,
        "report": report,
        "counts": lesion_counts(scan.lesions),
        "spacing": [x, y, z],
        "shape": list(hu.shape[::-1]),
    }


def masks_of(scan: AbdomenScan) -> dict[str, Mask]:
    """Draw every structure that is there, and all kinds of lesions, also empty ones.

    As published, whole liver and pancreas come beside their parts; organs include their lesions.
    """
    drawn = {name: scan.organs == number for name, number in ID.items() if number}
    found = {name: mask for name, mask in drawn.items() if mask.any()}
    found |= {"liver": np.isin(scan.organs, LIVER), "pancreas": np.isin(scan.organs, PANCREAS)}
    for kind, site in SITES.items():
        lesions = [lesion.mask for lesion in scan.lesions if lesion.kind == kind]
        name = next(name for name, number in ID.items() if number == site.lesion)
        found[name] = np.logical_or.reduce([np.zeros(scan.organs.shape, np.bool_), *lesions])
    return found
