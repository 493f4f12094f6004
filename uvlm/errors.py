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

import errno
import os
import re
import sys
import traceback
from pathlib import Path
from typing import ClassVar, Final


def first_line(error: BaseException) -> str:
    """Return the first line of another library's error, or its class if it has no text."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def install(extra: str) -> str:
    """Return the remedy for a package that only some profiles need."""
    return f"in the checkout, pip install -c constraints.txt -e '.[{extra}]'"


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
    """A file is refused; `reason` is a short slug for the quarantine list.

    Where `fact` uses pseudonyms, `named` says the same with real names.
    """

    def __init__(
        self,
        subject: object,
        fact: str,
        remedy: str = "",
        *,
        reason: str = "unreadable",
        named: str = "",
    ) -> None:
        super().__init__(subject, fact, remedy)
        self.reason = reason
        self.named = named or fact


class AmbiguousCt(ReadError):
    """A folder holds several CTs."""


class SetupError(UvlmError):
    """Weights, a package, memory or a device is missing."""

    exit_code = 4


class Interrupted(UvlmError):
    """Stopped by a signal after saving; the same command resumes."""

    exit_code = 5


_REMEDIES: Final = {  # by what the system says of one file
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "name a file",
    errno.EEXIST: "name another, or remove it",
    errno.ENOTEMPTY: "name another, or empty it",
    errno.EACCES: "check its permissions",
    errno.EPERM: "check its permissions",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.ELOOP: "correct the link",
    errno.EILSEQ: "use a name that this file system accepts",
    errno.EBUSY: "close what uses it",
}
_DISK_REMEDIES: Final = {  # and of a disk or the whole computer, whichever file it is
    errno.ENOSPC: "free some space and run the same command again",
    errno.EDQUOT: "free some space and run the same command again",
    errno.EFBIG: "write to another disk",
    errno.EROFS: "write to another disk",
    errno.EIO: "check the disk or the network drive",
    errno.ESTALE: "check the network drive",
    errno.EMFILE: "raise `ulimit -n`",
    errno.ENFILE: "raise `ulimit -n`",
}
_OF_ANOTHER_LANGUAGE: Final = re.compile(r"\(os error (\d+)\)")  # how Rust's libraries end
_NO_TEMPORARY: Final = "No usable temporary directory"  # from `tempfile`, without number or name
_LOOP: Final = re.compile(r"Symlink loop from '(.*)'")  # Path.resolve before Python 3.13


def as_known(error: BaseException) -> UvlmError | None:
    """Tell of an error in one line if it is about a user's file, a name or a disk.

    Returns:
        The error to show, or None for a bug.
    """
    if isinstance(error, UvlmError):
        return error
    if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
        line = error.object[: error.end].rpartition("\n")[2][-80:]
        return DataError(ascii(line), "holds a byte that is not UTF-8", "rename the file")
    if isinstance(error, RuntimeError) and (loop := _LOOP.fullmatch(str(error))):
        return DataError(loop[1], "is a loop of symbolic links", "correct the link")
    if isinstance(error, FileNotFoundError) and _NO_TEMPORARY in str(error):
        fact = "no folder for temporary files can be written"
        remedy = "free some space, or set TMPDIR to a folder that can be"
        return SetupError("TMPDIR", fact, remedy)
    number, path = _system_error(error)
    fact = os.strerror(number).lower() if number else ""
    if number in _DISK_REMEDIES:
        return SetupError(path or "the disk", fact, _DISK_REMEDIES[number])
    if number in _REMEDIES and path and not _is_of_program(path):
        return DataError(path, fact, _REMEDIES[number])
    return None


def tell(error: BaseException, who: str = "") -> int:
    """Write one line about an error to stderr, or the traceback of a bug; return the exit code.

    Args:
        error: what ended the work.
        who: the stage or process that it ended.
    """
    before = f"{who}: " if who else ""
    known = as_known(error)
    if known is None:
        traceback.print_exception(error)
        sys.stderr.write(f"{before}this is a bug; please report it with the lines above\n")
        return UvlmError.exit_code
    sys.stderr.write(f"{known.details}\n" if known.details else "")
    sys.stderr.write(f"{before}{known}\n")
    return known.exit_code


def _system_error(error: BaseException) -> tuple[int, str]:
    """Find the number and the file of what the operating system refused: 0 and "" if nothing."""
    if not isinstance(error, OSError) or error.errno is None:
        said = _OF_ANOTHER_LANGUAGE.search(str(error))
        return (int(said[1]), "") if said else (0, "")
    # Of a renaming, the second name is the one that the user gave.
    name = error.filename if error.filename2 is None else error.filename2
    return error.errno, os.fsdecode(name) if isinstance(name, str | bytes) else ""


def _is_of_program(path: str) -> bool:
    """Whether a file is part of the installation, so that whoever misses it has a bug."""
    import sysconfig

    ours = Path(__file__).parent
    system = (sysconfig.get_path(name) for name in ("stdlib", "purelib"))
    folders = [str(ours), str(ours.with_name("pipeline")), *system]
    return any(Path(path).absolute().is_relative_to(folder) for folder in folders)
