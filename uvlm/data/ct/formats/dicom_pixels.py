"""The stored values of one DICOM slice, native or compressed.

Native and RLE pixels are decoded here and by pydicom. JPEG, JPEG-LS and JPEG 2000 go to GDCM: in a
private file that holds nothing else, without rescaling, after the stream was seen to end.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from uvlm.data.ct.formats.dicom_header import CT, SliceHeader, parsing, read_dataset
from uvlm.data.ct.formats.stored import AGAIN, refuse_size
from uvlm.data.ct.volume import ReadError

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

_NATIVE: Final = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
)
_RLE: Final = "1.2.840.10008.1.2.5"
_JPEG: Final = (
    "1.2.840.10008.1.2.4.51",  # extended, 12 bits, lossy
    "1.2.840.10008.1.2.4.57",  # lossless
    "1.2.840.10008.1.2.4.70",  # lossless, first-order prediction
    "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.81",  # JPEG-LS near lossless
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
)
_END_OF_IMAGE: Final = b"\xff\xd9"


def read_pixels(header: SliceHeader) -> npt.NDArray[np.int16] | npt.NDArray[np.uint16]:
    """Decode the stored values (rows, columns) of a slice, not rescaled yet."""
    path = header.path
    with parsing(path):
        dataset = read_dataset(path, pixels=True)
        if "PixelData" not in dataset:
            raise ReadError(path, "has no pixels", AGAIN, reason="size_mismatch")
        syntax = str(dataset.file_meta.TransferSyntaxUID)
        if syntax in _NATIVE:
            stored = _native(dataset, header, big=syntax == "1.2.840.10008.1.2.2")
        elif syntax == _RLE:
            stored = _run_lengths(dataset, header)
        elif syntax in _JPEG:
            stored = _jpeg(dataset, header)
        else:
            fact = f"is compressed as {dataset.file_meta.TransferSyntaxUID.name}"
            remedy = "decompress it, for example with gdcmconv --raw"
            raise ReadError(path, fact, remedy, reason="compressed_syntax")
        return _used_bits(stored, dataset)


def _native(dataset: FileDataset, header: SliceHeader, *, big: bool) -> npt.NDArray[np.uint16]:
    payload, size = dataset.PixelData, 2 * header.rows * header.columns
    if len(payload) != size:
        refuse_size(header.path, size, f"{len(payload)} bytes of pixels")
    pixels = np.frombuffer(payload, ">u2" if big else "<u2")
    return pixels.astype(np.uint16).reshape(header.rows, header.columns)


def _run_lengths(dataset: FileDataset, header: SliceHeader) -> npt.NDArray[np.uint16]:
    _fragments(dataset, header.path)
    from pydicom.pixels.utils import pixel_array

    pixels: npt.NDArray[Any] = pixel_array(dataset)
    return pixels.view(np.uint16).reshape(header.rows, header.columns)


def _jpeg(dataset: FileDataset, header: SliceHeader) -> npt.NDArray[np.uint16]:
    """Hand GDCM one frame that is known to be whole, and nothing to choose from."""
    import SimpleITK as sitk

    stream = _fragments(dataset, header.path)
    if not stream.rstrip(b"\0").endswith(_END_OF_IMAGE):
        fact = f"has a JPEG stream of {len(stream)} bytes without its end"
        raise ReadError(header.path, fact, AGAIN, reason="truncated_jpeg")
    with tempfile.TemporaryDirectory(prefix="uvlm-") as folder:
        alone = Path(folder) / "slice.dcm"
        _frame_of(dataset).save_as(alone, enforce_file_format=True)
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(alone))
        try:
            pixels = sitk.GetArrayFromImage(reader.Execute())
        except RuntimeError:
            fact = "has a JPEG stream that cannot be decoded"
            raise ReadError(header.path, fact, AGAIN, reason="damaged_jpeg") from None
    shape = (header.rows, header.columns)
    if pixels.size != shape[0] * shape[1] or pixels.dtype not in (np.int16, np.uint16):
        refuse_size(header.path, 2 * shape[0] * shape[1], f"{pixels.shape} of {pixels.dtype}")
    return pixels.reshape(shape).view(np.uint16)


def _frame_of(dataset: FileDataset) -> FileDataset:
    """Copy what describes the pixels, so that decoding cannot depend on anything else."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(CT), UID("2.25.1")
    frame = FileDataset("slice", {}, file_meta=meta, preamble=b"\0" * 128)
    frame.SOPClassUID, frame.SOPInstanceUID, frame.Modality = CT, "2.25.1", "CT"
    for name in (
        "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated",
        "BitsStored", "HighBit", "PixelRepresentation", "PixelData",
    ):  # fmt: skip
        if name in dataset:
            frame[name] = dataset[name]
    frame.RescaleSlope, frame.RescaleIntercept = "1", "0"
    return frame


def _fragments(dataset: FileDataset, path: Path) -> bytes:
    """Join the fragments of the one frame, after checking that their list has its end."""
    from pydicom.encaps import generate_fragments, parse_basic_offsets

    element = dataset["PixelData"]
    if not element.is_undefined_length:
        raise ReadError(path, "has pixels that are not encapsulated", AGAIN, reason="dicom_header")
    payload = element.value
    parse_basic_offsets(payload)
    return b"".join(generate_fragments(payload))


def _used_bits(
    stored: npt.NDArray[np.uint16], dataset: FileDataset
) -> npt.NDArray[np.int16] | npt.NDArray[np.uint16]:
    """Drop the bits above BitsStored (old overlays) and extend the sign."""
    spare = 16 - int(dataset.get("BitsStored") or 16)
    shifted = np.left_shift(stored, spare)
    if int(dataset.get("PixelRepresentation") or 0):
        return np.right_shift(shifted.view(np.int16), spare)
    return np.right_shift(shifted, spare)
