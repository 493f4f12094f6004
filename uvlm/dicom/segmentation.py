"""DICOM SEG: the segments of a mask on the CT's own slices, one bit a voxel."""

from __future__ import annotations

from highdicom.content import AlgorithmIdentificationSequence, PixelMeasuresSequence
from highdicom.seg import Segmentation, SegmentDescription
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

import uvlm
from uvlm.dicom.headers import CtHeaders
from uvlm.dicom.identity import MANUFACTURER, NOT_REVIEWED, Identity
from uvlm.dicom.segments import Segment, Segments


def segmentation(headers: CtHeaders, segments: Segments, identity: Identity) -> Segmentation:
    """Make the segmentation; segments must not be empty.

    Frames without a voxel of a segment are left out, as the standard allows.
    """
    return Segmentation(
        source_images=list(headers.images),
        pixel_array=segments.array[list(headers.planes)],
        segmentation_type="BINARY",
        segment_descriptions=[_description(segment, identity) for segment in segments.listed],
        pixel_measures=PixelMeasuresSequence(
            pixel_spacing=headers.spacing_mm[1:],
            slice_thickness=headers.spacing_mm[0],
            spacing_between_slices=headers.spacing_mm[0],
        ),
        content_description=NOT_REVIEWED,
        content_label="RESEARCH_DRAFT",
        content_qualification="RESEARCH",
        **identity.series_arguments("masks", "Masks"),
    )


def _description(segment: Segment, identity: Identity) -> SegmentDescription:
    concept = segment.concept
    described = SegmentDescription(
        segment_number=segment.number,
        segment_label=segment.label,
        segmented_property_category=concept.category,
        segmented_property_type=concept.kind,
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=MANUFACTURER,
            family=codes.cid7162.ArtificialIntelligence,
            version=uvlm.__version__,
        ),
        tracking_uid=tracking_uid(segment, identity),
        tracking_id=segment.label,
        anatomic_regions=[concept.site] if concept.site else None,
    )
    if concept.side:
        described.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
            _item(concept.side)
        ]
    return described


def tracking_uid(segment: Segment, identity: Identity) -> str:
    """Name a segment, the same in masks and report."""
    return identity.instance("masks", 1000 + segment.number)


def _item(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodeMeaning = code.value, code.meaning
    item.CodingSchemeDesignator = code.scheme_designator
    return item
