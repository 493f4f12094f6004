"""Secondary captures and the encapsulated PDF, attribute by attribute."""

from __future__ import annotations

from highdicom.base import SOPClass
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID, EncapsulatedPDFStorage, SecondaryCaptureImageStorage

from uvlm.dicom.headers import CtHeaders
from uvlm.dicom.identity import NOT_REVIEWED, Identity
from uvlm.dicom.key_planes import Picture


def secondary_capture(
    headers: CtHeaders, picture: Picture, identity: Identity, number: int
) -> SOPClass:
    """Wrap a picture (rows, columns, RGB); it shows planes of several directions."""
    made = _empty(headers, identity, "planes", SecondaryCaptureImageStorage, "OT", number)
    made.ConversionType = "WSD"
    made.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    made.PatientOrientation, made.Laterality = None, None
    made.ImageComments = NOT_REVIEWED
    made.DateOfSecondaryCapture = made.ContentDate
    made.TimeOfSecondaryCapture = made.ContentTime
    made.Rows, made.Columns = picture.shape[:2]
    made.SamplesPerPixel, made.PhotometricInterpretation = 3, "RGB"
    made.PlanarConfiguration, made.PixelRepresentation = 0, 0
    made.BitsAllocated, made.BitsStored, made.HighBit = 8, 8, 7
    made.PixelData = _even(picture.tobytes())
    made["PixelData"].VR = "OB"
    return made


def encapsulated_pdf(headers: CtHeaders, pdf: bytes, identity: Identity) -> SOPClass:
    """Wrap a PDF."""
    made = _empty(headers, identity, "pdf", EncapsulatedPDFStorage, "DOC", 1)
    made.ConversionType = "WSD"
    made.AcquisitionDateTime = None
    made.DocumentTitle = f"Draft report ({NOT_REVIEWED})"
    made.ConceptNameCodeSequence = [_item(codes.LN.DiagnosticImagingReport)]
    made.VerificationFlag = "UNVERIFIED"
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    made.EncapsulatedDocument = _even(pdf)
    made.EncapsulatedDocumentLength = len(pdf)
    made.SourceInstanceSequence = [_reference(image) for image in headers.images]
    return made


def _empty(
    headers: CtHeaders, identity: Identity, kind: str, sop_class: UID, modality: str, number: int
) -> SOPClass:
    """Make an object of the CT's study without its content."""
    description = {"planes": "Key planes", "pdf": "Report as PDF"}[kind]
    first, settings = headers.images[0], identity.series_arguments(kind, description, number)
    made = SOPClass(
        study_instance_uid=first.StudyInstanceUID,
        sop_class_uid=sop_class,
        modality=modality,
        **settings,
    )
    made.copy_patient_and_study_information(first)
    made.SpecificCharacterSet = first.SpecificCharacterSet
    made.BurnedInAnnotation = "NO"  # nothing in it says who the patient is
    return made


def _even(payload: bytes) -> bytes:
    return payload + b"\0" * (len(payload) % 2)


def _reference(image: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = (
        image.SOPClassUID,
        image.SOPInstanceUID,
    )
    return item


def _item(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodeMeaning = code.value, code.meaning
    item.CodingSchemeDesignator = code.scheme_designator
    return item
