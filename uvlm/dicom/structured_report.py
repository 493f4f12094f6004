"""Structured report by template TID 1500: measurements, the text, and what checks of it found.

Imaging Measurement Report
├── language, observer (the program), procedure reported
├── Imaging Measurements
│   └── Measurement Group, one a segment: its code, side and organ, its volume in ml
├── Comment: disclaimer, notes, the reason of a withheld report
├── Findings, Impressions
│   └── Finding, a sentence: what contradicts it, or that no single CT can show it
└── Findings by the classifier: each abnormality with its certainty in percent
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from highdicom.seg import Segmentation
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    ComprehensiveSR,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    LanguageOfContentItemAndDescendants,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    NumContentItem,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    ReferencedSegment,
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import SegmentationStorage

import uvlm
from uvlm.dicom.codes import our_code
from uvlm.dicom.headers import CtHeaders
from uvlm.dicom.identity import MANUFACTURER, MODEL_NAME, NOT_REVIEWED, Identity, plain
from uvlm.dicom.segmentation import tracking_uid
from uvlm.dicom.segments import Segment, Segments
from uvlm.text.draft import Draft, Sentence

_ML: Final = Code("ml", "UCUM", "milliliter")
_PERCENT: Final = Code("%", "UCUM", "percent")
_BY_CLASSIFIER: Final = our_code("findings by the classifier")
_ENGLISH: Final = CodedConcept("en", "RFC5646", "English")
_PARTS: Final = {
    "findings": (codes.DCM.Findings, codes.DCM.Finding),
    "impression": (codes.DCM.Impressions, codes.DCM.Impression),
}


def structured_report(
    headers: CtHeaders,
    draft: Draft,
    segments: Segments,
    masks: Segmentation | None,
    identity: Identity,
) -> ComprehensiveSR:
    """Make the report; `masks` holds the segments, and is None if there are none."""
    groups = [_group(one, headers, identity) for one in segments.listed]
    report = MeasurementReport(
        observation_context=_observer(identity),
        procedure_reported=codes.SCT.ComputedTomography,
        imaging_measurements=groups or [_without_masks(identity)],
        title=codes.DCM.ImagingMeasurementReport,
        language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(_ENGLISH),
    )
    report[0].ContentSequence.extend(_text(draft, headers.notes))
    evidence = [*headers.images, *([masks] if masks is not None else [])]
    made = ComprehensiveSR(
        evidence=evidence,
        content=report[0],
        is_complete=False,
        is_final=False,
        is_verified=False,
        **identity.series_arguments("report", "Report"),
    )
    made.CompletionFlagDescription = NOT_REVIEWED
    return made


def _observer(identity: Identity) -> ObservationContext:
    device = DeviceObserverIdentifyingAttributes(
        uid=identity.device(),
        name=MANUFACTURER,
        manufacturer_name=MANUFACTURER,
        model_name=MODEL_NAME,
        serial_number=identity.model[:16],
    )
    return ObservationContext(observer_device_context=ObserverContext(codes.DCM.Device, device))


def _group(
    segment: Segment, headers: CtHeaders, identity: Identity
) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
    concept = segment.concept
    algorithm = AlgorithmIdentification(MANUFACTURER, uvlm.__version__)
    # A lesion lies in an organ; a structure is its own site, which is where its side is said.
    site = FindingSite(concept.site or concept.kind, laterality=concept.side)
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(tracking_uid(segment, identity), segment.label),
        referenced_segment=ReferencedSegment(
            sop_class_uid=SegmentationStorage,
            sop_instance_uid=identity.instance("masks"),
            segment_number=segment.number,
            source_series=SourceSeriesForSegmentation(headers.series),
        ),
        finding_category=concept.category,
        finding_type=concept.kind,
        finding_sites=[site],
        measurements=[
            Measurement(
                name=codes.SCT.Volume,
                value=round(segment.volume_ml, 3),
                unit=_ML,
                algorithm_id=algorithm,
            )
        ],
    )


def _without_masks(identity: Identity) -> MeasurementsAndQualitativeEvaluations:
    """Say that nothing was measured; the template asks for one group at least."""
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(identity.instance("masks"), "No masks"),
        qualitative_evaluations=[QualitativeEvaluation(our_code("Masks"), our_code("None"))],
    )


def _text(draft: Draft, notes: Sequence[str]) -> Iterator[ContentItem]:
    """Say in words what the draft says, and how far to trust it."""
    remarks = [NOT_REVIEWED, draft.disclaimer, *draft.notes, *notes]
    if draft.withheld:
        remarks.append(f"The report was withheld: {draft.withheld}")
    for remark in dict.fromkeys(filter(None, map(plain, remarks))):
        yield _words(codes.DCM.Comment, remark)
    for part, (heading, name) in _PARTS.items():
        said = [_sentence(name, one) for one in draft.sentences if one.part == part]
        if said:
            yield _container(heading, said)
    if draft.probabilities:
        yield _container(_BY_CLASSIFIER, [_certainty(*p) for p in draft.probabilities.items()])


def _sentence(name: Code, sentence: Sentence) -> TextContentItem:
    remarks = [f"contradicted: {fact}" for fact in sentence.contradictions]
    if sentence.unsupported_by_one_ct:
        remarks.append(f"no single CT can show this: {sentence.unsupported_by_one_ct}")
    item = _words(name, plain(sentence.text))
    if remarks:
        about = [_words(codes.DCM.Comment, plain(text), "HAS PROPERTIES") for text in remarks]
        item.ContentSequence = ContentSequence(about)
    return item


def _certainty(abnormality: str, probability: float) -> TextContentItem:
    item = _words(codes.DCM.Finding, plain(abnormality))
    number = NumContentItem(
        codes.DCM.CertaintyOfFinding,
        round(100 * probability, 2),
        _PERCENT,
        relationship_type="HAS PROPERTIES",
    )
    item.ContentSequence = ContentSequence([number])
    return item


def _words(name: Code, text: str, relationship: str = "CONTAINS") -> TextContentItem:
    return TextContentItem(name, text, relationship_type=relationship)


def _container(name: Code, items: Sequence[ContentItem]) -> ContainerContentItem:
    container = ContainerContentItem(name, relationship_type="CONTAINS")
    container.ContentSequence = ContentSequence(items)
    return container
