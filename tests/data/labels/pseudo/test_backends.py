"""The protocol: what params.yaml can name, what a backend tells, and what makes a result anew."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest

from pipeline.profiles import read_document
from pipeline.pseudo_label import main
from uvlm.config import LABEL_KINDS, PseudoLabelConfig
from uvlm.data.labels.pseudo.backend import Backend, Provenance
from uvlm.data.labels.pseudo.backends import BACKENDS
from uvlm.data.labels.pseudo.published import NoLabels, PublishedMasks
from uvlm.data.sets.phantom.dataset import MASKS
from uvlm.store import read_manifest

if TYPE_CHECKING:
    from tests.data.conftest import Stages


@pytest.mark.parametrize("kind", LABEL_KINDS)
def test_params_can_name_exactly_the_backends_there_are(kind: str) -> None:
    section = PseudoLabelConfig.model_fields[kind].annotation
    assert section is not None
    allowed = get_args(section.model_fields["backend"].annotation)
    assert set(allowed) == set(BACKENDS[kind])  # type: ignore[index]


def test_pipeline_parameters_and_backends_know_the_same_kinds() -> None:
    stages = read_document(Path(__file__).parents[4] / "dvc.yaml")["stages"]
    assert tuple(stages["pseudo_label"]["matrix"]["kind"]) == LABEL_KINDS
    assert tuple(PseudoLabelConfig.model_fields) == LABEL_KINDS
    assert tuple(BACKENDS) == LABEL_KINDS


def test_a_backend_reaches_another_process_and_is_loaded_there_once() -> None:
    for backend in (PublishedMasks(MASKS, "airway"), NoLabels()):
        again: Backend = pickle.loads(pickle.dumps(backend))
        assert again == backend
        assert hash(again) == hash(backend)


@pytest.mark.parametrize(
    "change",
    [
        {"version": "2"},
        {"licence": "MIT"},
        {"weights_sha256": "0" * 64},
        {"options": {"mask": "total", "fast": True}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_provenance_is_another_result(
    stages: Stages, change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    stages.index()
    stages.pseudo_label("anatomy")
    before = {row.case: row.key for row in read_manifest(stages.manifest("anatomy"))}
    told = PublishedMasks(MASKS, "anatomy").provenance().to_json() | change
    changed = Provenance(**told)
    monkeypatch.setattr(PublishedMasks, "provenance", lambda _: changed)
    stages.pseudo_label("anatomy")
    rows = read_manifest(stages.manifest("anatomy"))
    assert all(row.key != before[row.case] for row in rows)
    assert all(row.extra | change == row.extra for row in rows)


def test_the_same_voxels_in_another_ct_are_labelled_anew(stages: Stages) -> None:
    stages.index()
    stages.pseudo_label("anatomy")
    rows = read_manifest(stages.manifest("anatomy"))
    assert len({row.key for row in rows}) == len(rows) == 11  # their masks are all alike


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["tumour"], "pass anatomy, airway, vessel, and --shard i/n for a share"),
        ([], "pass anatomy, airway, vessel, and --shard i/n for a share"),
        (["anatomy", "--shards", "1/2"], "pass nothing, or --shard i/n"),
        (["anatomy", "1/2"], "pass nothing, or --shard i/n"),
    ],
)
def test_a_wrong_command_line_is_exit_code_2(
    arguments: list[str], remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith(f"; {remedy}\n")
