"""What people wrote about the replication: reports/tables/notes.yaml.

    progressive:                     a thesis of theses.py, `pipeline`, or `controls`
      longtail: The classifier ...   a profile
      all: ...                       every profile

The page is made again from the records at any time; only these explanations are written by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.profiles import profile_names, read_document
from pipeline.tables.theses import THESES
from uvlm.errors import DataError

PLACE: Final = Path("reports") / "tables" / "notes.yaml"
SUBJECTS: Final = (*(thesis.name for thesis in THESES), "pipeline", "controls")
_EVERY: Final = "all"
_REMEDY: Final = "correct it; docs/arms.md shows its form"


@dataclass(frozen=True)
class Notes:
    """Explanations by subject and profile."""

    texts: dict[str, dict[str, str]]

    def of(self, subject: str, profile: str) -> str:
        """Join what was written about a subject everywhere and on a profile; mostly empty."""
        found = self.texts.get(subject, {})
        return " ".join(" ".join(found[p].split()) for p in (_EVERY, profile) if p in found)


def read_notes(root: Path) -> Notes:
    """Read the explanations; there need not be any.

    Raises:
        DataError: the file is damaged, or names a thesis or profile that does not exist.
    """
    from ruamel.yaml.error import YAMLError

    try:
        document: Any = read_document(root / PLACE)
    except FileNotFoundError:
        return Notes({})
    except (YAMLError, UnicodeDecodeError) as error:
        fact = f"not readable as YAML ({' '.join(str(error).split())})"
        raise DataError(PLACE, fact, _REMEDY) from None
    if document is None:
        return Notes({})
    if not isinstance(document, dict):
        raise DataError(PLACE, "holds no subjects", _REMEDY)
    known = {_EVERY, *profile_names(root)}
    for subject, texts in document.items():
        _check(subject, texts, known)
    return Notes(document)


def _check(subject: Any, texts: Any, profiles: set[str]) -> None:
    if subject not in SUBJECTS:
        raise DataError(PLACE, f"{subject} is no subject", f"choose {', '.join(SUBJECTS)}")
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise DataError(PLACE, f"{subject} has no text for each profile", _REMEDY)
    if unknown := sorted(map(str, texts.keys() - profiles)):
        raise DataError(PLACE, f"{subject} names {unknown[0]}, which is no profile", _REMEDY)
