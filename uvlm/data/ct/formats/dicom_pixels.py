"""The stored values of DICOM slices, one or many in a file, native or compressed.

Native and RLE pixels are decoded here and by pydicom. JPEG, JPEG-LS and JPEG 2000 go to GDCM: in a
private file that holds nothing else, without rescaling, once the stream is known to be whole.
"""

from __future__ import annotations

import math
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydicom import uid
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_fragments, parse_basic_offsets
from pydicom.pixels.utils import pixel_array

from uvlm.data.ct.formats.dicom_header import SliceHeader, parsing, read_dataset
from uvlm.data.ct.formats.stored import AGAIN, refuse_size
from uvlm.data.ct.volume import ReadError

Stored = npt.NDArray[np.uint16]  # (rows, columns), as in the file
Pixels = npt.NDArray[np.int16] | Stored
_JPEG: Final = (
    uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless,
    uid.JPEGLSNearLossless, uid.JPEG2000Lossless, uid.JPEG2000,
)  # fmt: skip
_ITEM_BYTES: Final = 8  # tag and length before a fragment
_END_OF_IMAGE: Final = b"\xff\xd9"
_DESCRIBES_PIXELS: Final = (
    "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation",
)  # fmt: skip


def read_pixels(slices: Sequence[SliceHeader]) -> Iterator[tuple[int, Pixels]]:
    """Decode file by file the stored values (rows, columns) of slices, not rescaled yet.

    Yields:
        Which of the slices it is, and its values.
    """
    wanted: dict[Path, list[int]] = defaultdict(list)
    for place, header in enumerate(slices):
        wanted[header.path].append(place)
    for path, places in wanted.items():
        with parsing(path):
            dataset = read_dataset(path)
            decode = _decoder(dataset, slices[places[0]])
        for place in places:
            with parsing(path):
                pixels = _used_bits(decode(slices[place].frame_index or 0), dataset)
            yield place, pixels


def _decoder(dataset: FileDataset, header: SliceHeader) -> Callable[[int], Stored]:
    """Check that the pixels of a file are whole, and find how one frame of them is decoded."""
    if "PixelData" not in dataset:
        raise ReadError(header.path, "has no pixels", AGAIN, reason="size_mismatch")
    syntax = uid.UID(dataset.file_meta.TransferSyntaxUID)
    if syntax in uid.UncompressedTransferSyntaxes:
        frames = _native(dataset, header, big=syntax == uid.ExplicitVRBigEndian)
        return lambda index: frames[index].astype(np.uint16)
    if syntax not in (*_JPEG, uid.RLELossless):
        fact = f"is compressed as {syntax.name}"
        remedy = "decompress it, for example with gdcmconv --raw"
        raise ReadError(header.path, fact, remedy, reason="compressed_syntax")
    streams = _streams(dataset, header.path)
    return partial(_rle if syntax == uid.RLELossless else _jpeg, dataset, header, streams)


def _native(dataset: FileDataset, header: SliceHeader, *, big: bool) -> Stored:
    """View pixels that are not compressed as frames (frames, rows, columns)."""
    shape = _num_frames(dataset), header.rows, header.columns
    payload, size = dataset.PixelData, 2 * math.prod(shape)
    if len(payload) != size:
        refuse_size(header.path, size, f"{len(payload)} bytes of pixels")
    # Signed or not is decided in `_used_bits`; here it is 16 bits in the order of the file.
    return np.frombuffer(payload, ">u2" if big else "<u2").reshape(shape)


def _rle(dataset: FileDataset, header: SliceHeader, streams: Sequence[bytes], index: int) -> Stored:
    pixels: npt.NDArray[Any] = pixel_array(_frame_of(dataset, streams[index]))
    return pixels.view(np.uint16).reshape(header.rows, header.columns)


def _jpeg(
    dataset: FileDataset, header: SliceHeader, streams: Sequence[bytes], index: int
) -> Stored:
    """Hand GDCM one frame that is known to be whole, and nothing to choose from."""
    import SimpleITK as sitk

    stream = streams[index]
    # Whether GDCM notices a missing end depends on the codec, so we look for it here.
    if not stream.rstrip(b"\0").endswith(_END_OF_IMAGE):
        fact = f"has a JPEG stream of {len(stream)} bytes without its end"
        raise ReadError(header.path, fact, AGAIN, reason="truncated_jpeg")
    with tempfile.TemporaryDirectory(prefix="uvlm-") as folder:
        alone = Path(folder) / "slice.dcm"
        _frame_of(dataset, stream).save_as(alone, enforce_file_format=True)
        try:
            image = sitk.ReadImage(str(alone), imageIO="GDCMImageIO")
        except RuntimeError:
            fact = "has a JPEG stream that cannot be decoded"
            raise ReadError(header.path, fact, AGAIN, reason="damaged_jpeg") from None
    pixels, shape = sitk.GetArrayFromImage(image), (header.rows, header.columns)
    if pixels.size != shape[0] * shape[1] or pixels.dtype not in (np.int16, np.uint16):
        refuse_size(header.path, 2 * shape[0] * shape[1], f"{pixels.shape} of {pixels.dtype}")
    return pixels.reshape(shape).view(np.uint16)


def _frame_of(dataset: FileDataset, stream: bytes) -> FileDataset:
    """Copy one frame and what describes its pixels; decoding cannot depend on anything else."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    meta.MediaStorageSOPClassUID = uid.CTImageStorage
    meta.MediaStorageSOPInstanceUID = uid.UID("2.25.1")
    frame = FileDataset("slice", {}, file_meta=meta, preamble=b"\0" * 128)
    frame.SOPClassUID, frame.SOPInstanceUID, frame.Modality = uid.CTImageStorage, "2.25.1", "CT"
    for name in _DESCRIBES_PIXELS:
        if name in dataset:
            frame[name] = dataset[name]
    frame.PixelData = encapsulate([stream])
    frame["PixelData"].VR, frame["PixelData"].is_undefined_length = "OB", True
    frame.RescaleSlope, frame.RescaleIntercept = "1", "0"
    return frame


def _streams(dataset: FileDataset, path: Path) -> list[bytes]:
    """Join the fragments of each frame, after checking that their list has its end."""
    element, count = dataset["PixelData"], _num_frames(dataset)
    if not element.is_undefined_length:
        raise ReadError(path, "has pixels that are not encapsulated", AGAIN, reason="dicom_header")
    buffer = BytesIO(element.value)
    offsets = parse_basic_offsets(buffer)  # from where the fragments begin
    fragments = list(generate_fragments(buffer))
    if count == 1:
        return [b"".join(fragments)]
    starts = list(accumulate((len(part) + _ITEM_BYTES for part in fragments), initial=0))[:-1]
    if not offsets and len(fragments) == count:
        offsets = starts
    # Where a frame begins is never guessed: without a table every frame has to be one fragment.
    in_order = [start for start in starts if start in offsets]
    if in_order != offsets or len(offsets) != count or offsets[0] != 0:
        fact = f"has {len(fragments)} pieces of pixels that do not fit {count} frames"
        remedy = f"{AGAIN}, or decompress it, for example with gdcmconv --raw"
        raise ReadError(path, fact, remedy, reason="size_mismatch")
    begins = [starts.index(offset) for offset in offsets]
    ends = [*begins[1:], len(fragments)]
    return [b"".join(fragments[a:b]) for a, b in zip(begins, ends, strict=True)]


def _num_frames(dataset: FileDataset) -> int:
    return int(dataset.get("NumberOfFrames") or 1)


def _used_bits(stored: Stored, dataset: FileDataset) -> Pixels:
    """Drop the bits above BitsStored (old overlays) and extend the sign."""
    spare = 16 - int(dataset.get("BitsStored") or 16)
    shifted = np.left_shift(stored, spare)
    if int(dataset.get("PixelRepresentation") or 0):
        return np.right_shift(shifted.view(np.int16), spare)  # on signed numbers, it keeps the sign
    return np.right_shift(shifted, spare)
