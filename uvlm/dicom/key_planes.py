"""Pictures of the key planes, for archives and viewers that show no DICOM SEG.

Three planes through every lesion, with the outlines of the masks, and below them what it is and
that nobody reviewed it. Without a lesion there is one picture, through the middle of the CT.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import numpy as np
import numpy.typing as npt

from uvlm.arrays import Array, Ids
from uvlm.data.ct.volume import LabelMap, Volume, axis_order
from uvlm.dicom.identity import NOT_REVIEWED
from uvlm.dicom.segments import Segment, Segments
from uvlm.pages.html import new_figure, png_of
from uvlm.pages.label_planes import Outlined, draw_outlines

MAX_PICTURES: Final = 12
_DPI: Final = 110  # that of draw_outlines
_CAPTION_INCHES: Final = 0.62
_LINE: Final = 118  # characters
Picture = npt.NDArray[np.uint8]  # (rows, columns, RGB)


@dataclass(frozen=True, eq=False)
class Shown:
    """A CT with its masks in canonical order (z, y, x)."""

    hu: Array
    ids: Ids
    segments: Array  # numbers of segments
    spacing: tuple[float, float, float]
    names: Sequence[str]

    @classmethod
    def of(cls, ct: Volume, masks: LabelMap, segments: Segments, names: Sequence[str]) -> Shown:
        """Turn everything into canonical order; nothing is copied."""
        order = axis_order(ct.affine)
        z, y, x = (ct.spacing[axis] for axis in order.file_axes)
        hu, ids, numbers = map(order.view, (ct.array, masks.array, segments.array))
        return cls(hu, ids, numbers, (z, y, x), names)


def pictures(shown: Shown, lesions: Sequence[Segment]) -> Iterator[Picture]:
    """Draw the largest lesions, or one overview."""
    if not lesions:
        caption = "Overview: no lesion is among the masks."
        yield _with_caption(_draw(shown, shown.ids, ()), caption)
    for number, segment in enumerate(lesions[:MAX_PICTURES], start=1):
        ids = np.array(shown.ids)
        alone = len(shown.names)  # an id of its own, so that the planes run through this part
        ids[shown.segments == segment.number] = alone
        which = f"Lesion {number} of {len(lesions)}: {segment.label}, {segment.volume_ml:.2f} ml"
        yield _with_caption(_draw(shown, ids, (alone,), segment.label), which)


def _draw(shown: Shown, ids: Ids, marked: Sequence[int], label: str = "") -> Picture:
    names = [*shown.names, label]
    return _pixels(draw_outlines(Outlined(shown.hu, ids, shown.spacing, names, marked)))


def _with_caption(picture: Picture, caption: str) -> Picture:
    """Burn the caption in below; many viewers show the pixels and nothing else."""
    height, width = picture.shape[:2]
    figure = new_figure(width / _DPI, _CAPTION_INCHES)
    figure.text(0.01, 0.62, caption[:_LINE], fontsize=9, parse_math=False)
    warning = f"{NOT_REVIEWED.capitalize()}. A machine drew the outlines."
    figure.text(0.01, 0.16, warning, fontsize=9, color="#b00020", weight="bold")
    with without_glyph_warnings():
        strip = _pixels(png_of(figure, _DPI))
    whole = np.full((height + len(strip), width, 3), 255, np.uint8)
    whole[:height] = picture
    across = min(width, strip.shape[1])
    whole[height:, :across] = strip[:, :across]
    return whole


@contextmanager
def without_glyph_warnings() -> Iterator[None]:
    """Let a letter that the font lacks be drawn as a box, without a warning for each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def _pixels(png: bytes) -> Picture:
    from matplotlib.image import imread

    values = imread(BytesIO(png), format="png")[..., :3]  # 0 to 1
    return np.ascontiguousarray(np.rint(values * 255).astype(np.uint8))
