"""Masks land on the voxels that they were drawn on, whatever way the CT lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import numpy.typing as npt
import pytest
from pydicom import dcmread
from scipy.spatial.transform import Rotation

from benchmarks.dicom_enhanced import write_enhanced
from benchmarks.dicom_series import write_series
from tests.dicom.conftest import NAMES, ORDERS, body, draft_of, lps, masks_of, stored, tagged
from uvlm.data.ct.io import read_volume
from uvlm.data.ct.volume import LabelMap, Volume
from uvlm.dicom.headers import headers_of
from uvlm.dicom.identity import identity_of
from uvlm.dicom.segmentation import segmentation
from uvlm.dicom.segments import MAX_PARTS, segments_of

Ids = npt.NDArray[np.uint8]
LABELS = {
    "Liver": "liver",
    "Pleural effusion or thickening": "pleural_effusion_or_thickening",
    "Nodule or mass 1 of 2": "nodule_or_mass",
    "Nodule or mass 2 of 2": "nodule_or_mass",
}


def masks_file(ct: Path) -> Path:
    """Write the DICOM SEG of a CT with the masks that its HU imply."""
    volume = read_volume(ct)
    segments = segments_of(LabelMap(masks_of(volume.array), volume.affine), NAMES)
    headers = headers_of(volume)
    made = segmentation(headers, segments, identity_of(draft_of(), headers.series, "a"))
    made.save_as(ct.parent / "masks.dcm")
    return ct.parent / "masks.dcm"


def in_space(path: Path, grid: Volume) -> Ids:
    """Paint a DICOM SEG onto a grid, frame by frame, by nothing but positions in the patient."""
    dataset, painted = dcmread(path), np.zeros(grid.array.shape, np.uint8)
    names = {s.SegmentNumber: LABELS[s.SegmentLabel] for s in dataset.SegmentSequence}
    (shared,) = dataset.SharedFunctionalGroupsSequence
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    down, across = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    to_index = np.linalg.inv(grid.affine)
    frames = zip(dataset.PerFrameFunctionalGroupsSequence, dataset.pixel_array, strict=True)
    for groups, frame in frames:
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        corner = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        for row, column in np.argwhere(frame):
            point = corner + cosines[:3] * across * column + cosines[3:] * down * row
            place = (to_index @ [*point, 1.0])[:3]
            assert np.abs(place - np.rint(place)).max() < 0.01
            z, y, x = np.rint(place).astype(int)
            assert painted[z, y, x] == 0
            painted[z, y, x] = NAMES.index(names[number])
    return painted


@pytest.mark.slow
@pytest.mark.parametrize("half", range(4))
def test_48_of_48_orientations_land_on_the_right_voxels(tmp_path: Path, half: int) -> None:
    canonical = lps(body())
    for number, order in list(enumerate(ORDERS))[half::4]:
        write_series(tmp_path / f"{number}", stored(canonical, order), edit=tagged())
        masks = masks_file(tmp_path / f"{number}")
        np.testing.assert_array_equal(in_space(masks, canonical), masks_of(canonical.array))


@pytest.mark.parametrize("angles", [(0, 0, 12.5), (-14, 0, 0), (8, -7, 9)])
def test_an_oblique_series_lands_too(tmp_path: Path, angles: tuple[float, ...]) -> None:
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    canonical = lps(body(), turn)
    write_series(tmp_path / "series", canonical, edit=tagged())
    masks = masks_file(tmp_path / "series")
    np.testing.assert_array_equal(in_space(masks, canonical), masks_of(canonical.array))


def test_an_image_of_many_frames_in_any_order_lands_too(tmp_path: Path) -> None:
    canonical, order = lps(body()), [5, 0, 11, 3, 8, 1, 10, 2, 4, 9, 7, 6]

    def edit(dataset: Any) -> None:
        tagged()(dataset, 0)

    write_enhanced(tmp_path / "ct" / "image", canonical, order=order, edit=edit)
    masks = masks_file(tmp_path / "ct")
    np.testing.assert_array_equal(in_space(masks, canonical), masks_of(canonical.array))
    # Every frame says which frame of the CT it was drawn on.
    source = dcmread(tmp_path / "ct" / "image")
    for groups in dcmread(masks).PerFrameFunctionalGroupsSequence:
        (image,) = groups.DerivationImageSequence[0].SourceImageSequence
        place = groups.PlanePositionSequence[0].ImagePositionPatient
        own = source.PerFrameFunctionalGroupsSequence[int(image.ReferencedFrameNumber) - 1]
        np.testing.assert_allclose(place, own.PlanePositionSequence[0].ImagePositionPatient)


def test_slices_that_are_not_quite_even_keep_their_own_places(tmp_path: Path) -> None:
    shift = np.random.default_rng(0).uniform(-0.25, 0.25, 12)

    def edit(dataset: Any, number: int) -> bool:
        tagged()(dataset, number)
        dataset.ImagePositionPatient[2] = f"{60.125 + 2.5 * number + shift[number]:.6f}"
        return True

    write_series(tmp_path / "series", lps(body()), edit=edit)
    slices = {dcmread(f).SOPInstanceUID: dcmread(f) for f in (tmp_path / "series").iterdir()}
    masks = masks_file(tmp_path / "series")
    for groups in dcmread(masks).PerFrameFunctionalGroupsSequence:
        (image,) = groups.DerivationImageSequence[0].SourceImageSequence
        own = slices[image.ReferencedSOPInstanceUID].ImagePositionPatient
        np.testing.assert_allclose(groups.PlanePositionSequence[0].ImagePositionPatient, own)


@pytest.mark.slow
def test_highdicom_reads_the_same_mask_with_its_codes(usual: Path) -> None:
    masks, canonical = hd.seg.segread(usual / "masks.dcm"), lps(body())
    whole = masks.get_volume(combine_segments=True).array  # leaves out empty planes
    ids = np.array([0, *(NAMES.index(LABELS[s.SegmentLabel]) for s in masks.SegmentSequence)])
    filled = np.flatnonzero(masks_of(canonical.array).any((1, 2)))
    truth = masks_of(canonical.array)[filled[0] : filled[-1] + 1]
    assert np.array_equal(ids[whole], truth) or np.array_equal(ids[whole][::-1], truth)
    kinds = {s.SegmentLabel: s.SegmentedPropertyTypeCodeSequence[0] for s in masks.SegmentSequence}
    assert (kinds["Liver"].CodeValue, kinds["Liver"].CodingSchemeDesignator) == ("10200004", "SCT")
    assert kinds["Nodule or mass 1 of 2"].CodeMeaning == "Mass"


def test_every_part_of_a_lesion_is_a_segment_and_no_voxel_is_lost_in_many_parts() -> None:
    ids = np.zeros((40, 40, 40), np.uint8)
    nodule = NAMES.index("nodule_or_mass")
    count = 0
    for z in range(0, 40, 4):
        for x in range(0, 12, 4):
            ids[z, 5, x : x + 1 + (z // 4) % 3] = nodule
            count += 1
    segments = segments_of(LabelMap(ids, np.diag([2.0, 1, 1, 1])), NAMES)
    assert count == 30
    assert len(segments.listed) == MAX_PARTS
    np.testing.assert_array_equal(segments.array > 0, ids > 0)
    sizes = [segment.voxels for segment in segments.listed]
    assert sizes[:-1] == sorted(sizes[:-1], reverse=True)
    assert segments.listed[-1].label == "Nodule or mass 20 to 30 of 30"
    assert sum(s.volume_ml for s in segments.listed) == pytest.approx((ids > 0).sum() * 0.002)


def test_parts_that_touch_by_a_corner_are_one_lesion() -> None:
    ids = np.zeros((4, 4, 4), np.uint8)
    ids[0, 0, 0] = ids[1, 1, 1] = ids[3, 3, 3] = NAMES.index("nodule_or_mass")
    listed = segments_of(LabelMap(ids, np.eye(4)), NAMES).listed
    assert [(s.label, s.voxels) for s in listed] == [
        ("Nodule or mass 1 of 2", 2),
        ("Nodule or mass 2 of 2", 1),
    ]
