"""The errors a user can meet, each with its exit code.

UvlmError                70  a bug, or none of those below
├── ConfigError           2  a parameter, flag or command line is wrong
├── DataError             3  a file, table, case or cache is refused
│   └── ReadError             one case is left out and the stage continues
│       └── AmbiguousCt       a folder holds several CTs, and nothing says which is meant
├── SetupError            4  weights, a package, memory or a device is missing
└── Interrupted           5  stopped by a signal; the same command resumes
"""

from __future__ import annotations

from typing import ClassVar


def first_line(error: BaseException) -> str:
    """Return the first line of another library's error, or its class if it has no text."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class UvlmError(Exception):
    """One line for the user: which file or key, what is wrong with it, and what to do.

    Args:
        subject: the file, case or parameter at fault.
        fact: what was found, with the numbers.
        remedy: what to do about it.
    """

    exit_code: ClassVar[int] = 70

    def __init__(self, subject: object, fact: str, remedy: str = "") -> None:
        self.subject = str(subject)
        self.fact = fact
        self.remedy = remedy
        self.details = ""  # shown above the line, such as a table
        super().__init__(subject, fact, remedy)

    def __str__(self) -> str:
        line = f"{self.subject}: {self.fact}"
        return f"{line}; {self.remedy}" if self.remedy else line


class ConfigError(UvlmError):
    """A parameter, flag or command line is wrong."""

    exit_code = 2


class DataError(UvlmError):
    """A file, table, case or cache is refused."""

    exit_code = 3


class ReadError(DataError):
    """A file is refused; `reason` is a short slug for the quarantine list."""

    def __init__(
        self, subject: object, fact: str, remedy: str = "", *, reason: str = "unreadable"
    ) -> None:
        super().__init__(subject, fact, remedy)
        self.reason = reason


class AmbiguousCt(ReadError):
    """A folder holds several CTs; `fact` calls them by pseudonyms, `named` by their real names."""

    def __init__(
        self, subject: object, fact: str, remedy: str = "", *, reason: str, named: str = ""
    ) -> None:
        super().__init__(subject, fact, remedy, reason=reason)
        self.named = named or fact


class SetupError(UvlmError):
    """Weights, a package, memory or a device is missing."""

    exit_code = 4


class Interrupted(UvlmError):
    """Stopped by a signal after saving; the same command resumes."""

    exit_code = 5
