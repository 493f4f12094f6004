"""What other libraries raise is told in one line."""

from __future__ import annotations

import pytest

from uvlm.errors import first_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RuntimeError("\nsize mismatch for a:\n\tcopying a param"), "size mismatch for a:"),
        (OSError("one\u2028two"), "one"),
        (ValueError(" \n "), "ValueError"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_the_first_line_of_an_error_is_its_words_or_else_its_class(
    error: Exception, line: str
) -> None:
    assert first_line(error) == line
