"""The training cases that look most like a CT to the classifier, if a model ships an index of them.

nearest.safetensors   embeddings (N, E) of the classifier, of unit length
nearest.json          the model's sha256, and case id and report of every row

The index holds reports of patients, so nothing writes it unless it is asked to.

N cases, E numbers of the classifier's embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import normalize

from uvlm.errors import DataError
from uvlm.files import filling_folder, read_json, write_json_atomic

VECTORS: Final = "nearest.safetensors"
CASES: Final = "nearest.json"
_REMEDY: Final = "write the index again, or remove both files"


@dataclass(frozen=True)
class NearCase:
    """A training case and how alike it is: the cosine of the two embeddings."""

    case_id: str
    report: str
    similarity: float


def write_index(
    folder: Path, model_sha256: str, cases: Sequence[tuple[str, str]], embeddings: Tensor
) -> None:
    """Write an index beside a model; `cases` are id and report of every row of (N, E)."""
    if len(cases) != len(embeddings):
        raise ValueError(f"{len(cases)} cases, {len(embeddings)} embeddings")
    rows = [{"case_id": case, "report": report} for case, report in cases]
    with filling_folder(folder, keep_others=True) as temporary:
        units = normalize(embeddings.float(), dim=1).contiguous()
        save_file({"embeddings": units}, temporary / VECTORS)
        write_json_atomic(temporary / CASES, {"model_sha256": model_sha256, "cases": rows})


def nearest(folder: Path, model_sha256: str, embedding: Tensor, count: int) -> list[NearCase]:
    """Find the cases nearest to one embedding (E,), the nearest first; none without an index.

    Raises:
        DataError: the index is damaged, or belongs to another model.
    """
    if not (folder / CASES).exists() and not (folder / VECTORS).exists():
        return []
    document = read_json(folder / CASES, _REMEDY)
    if document.get("model_sha256") != model_sha256:
        raise DataError(folder / CASES, "is the index of another model", _REMEDY)
    try:
        vectors = load_file(folder / VECTORS)["embeddings"]
        cases = [(str(row["case_id"]), str(row["report"])) for row in document["cases"]]
        alike = vectors @ normalize(embedding.float().cpu(), dim=0)
    except (OSError, SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise DataError(folder / VECTORS, f"not readable ({error})", _REMEDY) from None
    if len(cases) != len(vectors):
        fact = f"has {len(vectors)} rows for {len(cases)} cases"
        raise DataError(folder / VECTORS, fact, _REMEDY)
    best = alike.topk(min(count, len(cases)))
    found = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [NearCase(cases[i][0], cases[i][1], round(value, 4)) for i, value in found]
