"""No dead parameters: what params.yaml offers is read by the code that it is offered for."""

from __future__ import annotations

import ast
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from uvlm.config import Params, Section

ROOT = Path(__file__).parents[1]


def leaves(section: type[Section], prefix: str = "") -> Iterator[str]:
    """Yield every parameter that is no section itself, as a dotted path."""
    for name, field in section.model_fields.items():
        annotation = field.annotation
        for candidate in (annotation, *typing.get_args(annotation)):
            if isinstance(candidate, type) and issubclass(candidate, Section):
                yield from leaves(candidate, f"{prefix}{name}.")
                break
        else:
            yield f"{prefix}{name}"


def attributes_read(folders: tuple[str, ...]) -> set[str]:
    """Names after a dot anywhere but in uvlm/config, whose validators only compare numbers."""
    found = set()
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            if path.is_relative_to(ROOT / "uvlm" / "config"):
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                    found.add(node.attr)
    return found


@pytest.mark.slow
def test_every_parameter_is_read_outside_of_its_validation() -> None:
    names = list(leaves(Params))
    assert len(names) > 100
    assert {"train_seg.ema_decay", "train_cls.pos_weight", "encode.views"} <= set(names)
    read = attributes_read(("uvlm", "pipeline"))
    assert [name for name in names if name.split(".")[-1] not in read] == []
