"""Filling the templates of pages, and pictures that travel inside them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any


def render(name: str, page: Mapping[str, Any], **filters: Callable[..., object]) -> str:
    """Fill a template; HTML escapes everything, Markdown through the filters that it is given."""
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


def png_url(picture: bytes) -> str:
    """Write a PNG as a data URL."""
    return "data:image/png;base64," + base64.b64encode(picture).decode("ascii")
