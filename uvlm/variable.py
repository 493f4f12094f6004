"""What an environment variable is: which values it accepts, how it is read and shown.

No other module reads the environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

from uvlm.errors import ConfigError, SetupError

T_co = TypeVar("T_co", covariant=True)
Value = TypeVar("Value")


@dataclass(frozen=True)
class Kind(Generic[T_co]):
    """What is accepted, in words and as a pattern, and how it is converted, or else refused."""

    accepts: str
    pattern: str
    convert: Callable[[str], T_co]


@dataclass(frozen=True)
class Variable(Generic[T_co]):
    """One row of the table; `otherwise` describes a default that is not a plain value."""

    name: str
    meaning: str
    kind: Kind[T_co]
    default: T_co
    otherwise: str = ""

    def read(self) -> T_co:
        """Return the present value or the default; raise ConfigError if it is not accepted."""
        text = os.environ.get(self.name)
        if not text:
            return self.default
        try:
            if re.fullmatch(self.kind.pattern, text, re.DOTALL) is None:
                raise ValueError
            return self.kind.convert(text)
        except (ValueError, OSError):
            fact, remedy = f"is '{without_login(text)}'", f"use {self.kind.accepts}"
            raise ConfigError(self.name, fact, remedy) from None

    def set(self, text: str) -> None:
        """Set the variable for this process; raise ConfigError if the value is not accepted."""
        os.environ[self.name] = text
        self.read()

    def needed(self: Variable[Value | None], remedy: str, fact: str = "is not set") -> Value:
        """Return the value of a variable that the task requires, or raise SetupError."""
        value = self.read()
        if value is None:
            raise SetupError(self.name, fact, remedy)
        return value

    @property
    def default_text(self) -> str:
        """The default, in words."""
        return self.otherwise or str(self.default)

    def shown(self) -> tuple[str, str]:
        """Return the present value as it may be printed, and set, default or wrong."""
        text = os.environ.get(self.name)
        if not text:
            return self.default_text, "default"
        try:
            self.read()
        except ConfigError:
            return without_login(text), "wrong"
        return "set" if self.kind is SECRET else without_login(text), "set"


def optional(
    name: str, meaning: str, kind: Kind[Value], otherwise: str = "not set"
) -> Variable[Value | None]:
    """Make a row without a value by default."""
    return Variable(name, meaning, kind, None, otherwise)


def inherited() -> dict[str, str]:
    """Copy the whole environment, for a child process to start from."""
    return dict(os.environ)


def without_login(text: str) -> str:
    """Put a value on one line and hide the login in an address."""
    return repr(re.sub(r"://[^/]*@", "://***@", text))[1:-1]


def _folder(text: str) -> Path:
    """Refuse a file; whoever uses the folder refuses or makes it if it does not exist."""
    if Path(text).is_file():
        raise ValueError
    return Path(text)


def _prices(text: str) -> tuple[float, float]:
    of_input, of_output = map(float, text.split(","))
    return of_input, of_output


def _bytes(text: str) -> int:
    """Convert "8GB" (powers of 1000) or "8GiB" (powers of 1024)."""
    number, unit, binary = re.findall(r"([0-9.]+)\s*([MGT])(i?)B", text)[0]
    return int(float(number) * (1024 if binary else 1000) ** (2 + "MGT".index(unit)))


TEXT: Final = Kind("any text", ".+", str)
SECRET: Final = Kind("any text; it is never shown", ".+", str)
URL: Final = Kind("an address that begins with http:// or https://", r"https?://[^\s/]\S*", str)
FOLDER: Final = Kind("a folder", ".+", _folder)
PATH: Final = Kind("a path", ".+", Path)
COUNT: Final = Kind("a whole number from 1", "0*[1-9][0-9]*", int)
NUMBER: Final = Kind("a whole number from 0", "[0-9]+", int)
SIZE: Final = Kind("a size such as 8GB or 7.5GiB", r"[0-9]{1,6}(\.[0-9]{1,3})?\s*[MGT]i?B", _bytes)
PRICES: Final = Kind("two prices such as 1,2", r"\s*[0-9.]+\s*,\s*[0-9.]+\s*", _prices)
