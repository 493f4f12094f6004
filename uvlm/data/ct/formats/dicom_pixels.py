"""The stored values of one DICOM slice, native or compressed.

Native and RLE pixels are decoded here and by pydicom. JPEG, JPEG-LS and JPEG 2000 go to GDCM: in a
private file that holds nothing else, without rescaling, once the stream is known to be whole.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydicom import dcmread, uid
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import generate_fragments, parse_basic_offsets
from pydicom.pixels.utils import pixel_array

from uvlm.data.ct.formats.dicom_header import SliceHeader, parsing
from uvlm.data.ct.formats.stored import AGAIN, refuse_size
from uvlm.data.ct.volume import ReadError

Stored = npt.NDArray[np.uint16]  # (rows, columns), as in the file
_JPEG: Final = (
    uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless,
    uid.JPEGLSNearLossless, uid.JPEG2000Lossless, uid.JPEG2000,
)  # fmt: skip
_END_OF_IMAGE: Final = b"\xff\xd9"
_DESCRIBES_PIXELS: Final = (
    "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "PixelData",
)  # fmt: skip


def read_pixels(header: SliceHeader) -> npt.NDArray[np.int16] | Stored:
    """Decode the stored values (rows, columns) of a slice, not rescaled yet."""
    path = header.path
    with parsing(path):
        dataset = dcmread(path)
        if "PixelData" not in dataset:
            raise ReadError(path, "has no pixels", AGAIN, reason="size_mismatch")
        syntax = uid.UID(dataset.file_meta.TransferSyntaxUID)
        if syntax in uid.UncompressedTransferSyntaxes:
            stored = _native(dataset, header, big=syntax == uid.ExplicitVRBigEndian)
        elif syntax == uid.RLELossless:
            _fragments(dataset, path)
            pixels: npt.NDArray[Any] = pixel_array(dataset)
            stored = pixels.view(np.uint16).reshape(header.rows, header.columns)
        elif syntax in _JPEG:
            stored = _jpeg(dataset, header)
        else:
            fact = f"is compressed as {syntax.name}"
            remedy = "decompress it, for example with gdcmconv --raw"
            raise ReadError(path, fact, remedy, reason="compressed_syntax")
        return _used_bits(stored, dataset)


def _native(dataset: FileDataset, header: SliceHeader, *, big: bool) -> Stored:
    payload, size = dataset.PixelData, 2 * header.rows * header.columns
    if len(payload) != size:
        refuse_size(header.path, size, f"{len(payload)} bytes of pixels")
    # Signed or not is decided in `_used_bits`; here it is 16 bits in the order of the file.
    pixels = np.frombuffer(payload, ">u2" if big else "<u2")
    return pixels.astype(np.uint16).reshape(header.rows, header.columns)


def _jpeg(dataset: FileDataset, header: SliceHeader) -> Stored:
    """Hand GDCM one frame that is known to be whole, and nothing to choose from."""
    import SimpleITK as sitk

    stream = _fragments(dataset, header.path)
    # Whether GDCM notices a missing end depends on the codec, so we look for it here.
    if not stream.rstrip(b"\0").endswith(_END_OF_IMAGE):
        fact = f"has a JPEG stream of {len(stream)} bytes without its end"
        raise ReadError(header.path, fact, AGAIN, reason="truncated_jpeg")
    with tempfile.TemporaryDirectory(prefix="uvlm-") as folder:
        alone = Path(folder) / "slice.dcm"
        _frame_of(dataset).save_as(alone, enforce_file_format=True)
        try:
            image = sitk.ReadImage(str(alone), imageIO="GDCMImageIO")
        except RuntimeError:
            fact = "has a JPEG stream that cannot be decoded"
            raise ReadError(header.path, fact, AGAIN, reason="damaged_jpeg") from None
    pixels, shape = sitk.GetArrayFromImage(image), (header.rows, header.columns)
    if pixels.size != shape[0] * shape[1] or pixels.dtype not in (np.int16, np.uint16):
        refuse_size(header.path, 2 * shape[0] * shape[1], f"{pixels.shape} of {pixels.dtype}")
    return pixels.reshape(shape).view(np.uint16)


def _frame_of(dataset: FileDataset) -> FileDataset:
    """Copy what describes the pixels, so that decoding cannot depend on anything else."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    meta.MediaStorageSOPClassUID = uid.CTImageStorage
    meta.MediaStorageSOPInstanceUID = uid.UID("2.25.1")
    frame = FileDataset("slice", {}, file_meta=meta, preamble=b"\0" * 128)
    frame.SOPClassUID, frame.SOPInstanceUID, frame.Modality = uid.CTImageStorage, "2.25.1", "CT"
    for name in _DESCRIBES_PIXELS:
        if name in dataset:
            frame[name] = dataset[name]
    frame.RescaleSlope, frame.RescaleIntercept = "1", "0"
    return frame


def _fragments(dataset: FileDataset, path: Path) -> bytes:
    """Join the fragments of the one frame, after checking that their list has its end."""
    element = dataset["PixelData"]
    if not element.is_undefined_length:
        raise ReadError(path, "has pixels that are not encapsulated", AGAIN, reason="dicom_header")
    parse_basic_offsets(element.value)
    return b"".join(generate_fragments(element.value))


def _used_bits(stored: Stored, dataset: FileDataset) -> npt.NDArray[np.int16] | Stored:
    """Drop the bits above BitsStored (old overlays) and extend the sign."""
    spare = 16 - int(dataset.get("BitsStored") or 16)
    shifted = np.left_shift(stored, spare)
    if int(dataset.get("PixelRepresentation") or 0):
        return np.right_shift(shifted.view(np.int16), spare)  # on signed numbers, it keeps the sign
    return np.right_shift(shifted, spare)
