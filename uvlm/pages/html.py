"""Filling the templates of pages, and the pictures that travel inside them."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def render(name: str, page: Mapping[str, Any], **filters: Callable[..., object]) -> str:
    """Fill a template; HTML is escaped automatically, Markdown by the filters passed."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("uvlm.pages"),
        autoescape=lambda template: template is not None and ".html" in template,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= filters
    return environment.get_template(name).render(page)


def new_figure(width: float, height: float) -> Figure:
    """Make a figure of this size in inches that needs no display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def png_of(figure: Figure, dpi: int) -> bytes:
    """Render a figure as a PNG that does not change when nothing has changed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi, facecolor="white", format="png", metadata={"Software": None})
    return buffer.getvalue()


def png_url(picture: bytes) -> str:
    """Write a PNG as a data URL."""
    return "data:image/png;base64," + base64.b64encode(picture).decode("ascii")
