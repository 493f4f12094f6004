"""From AbdomenAtlas on a hub to a scored model: every stage of the profile `abdomen`, tiny.

CTs are phantoms with drawn organs, the hub, the language model that reads reports and Qwen3 are the
tests' own; nothing else differs from the profile but sizes and steps.
"""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import close_session, constants

from pipeline.dvc_yaml import read_declarations
from pipeline.profiles import compose, write_params
from pipeline.stage import _KEEP_MEMORY
from tests.conftest import TINY
from tests.data.sets.abdomen_atlas.test_fetch import COLUMNS, tar_of
from tests.data.sets.hub.server import FakeHub, serve
from tests.evaluation.labelling import chat_server
from tests.pipeline.conftest import few_patients
from tests.tiny_qwen import write_qwen
from uvlm.data.ct.io import read_label_map, write_label_map
from uvlm.data.ct.volume import LabelMap
from uvlm.data.sets.abdomen_atlas.layout import REPO, TABLE, TEST_IDS, TRAIN_IDS, archive
from uvlm.data.sets.ct_rate.cases import mask_path
from uvlm.data.sets.phantom.dataset import Phantoms
from uvlm.files import store_root
from uvlm.store import rows_by_case
from uvlm.text.abnormalities import ABDOMEN_LESIONS

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]
ours_alone = pytest.mark.filterwarnings(
    # A script that another test has imported; MLflow warns about its own interfaces.
    "ignore:.*found in sys.modules:RuntimeWarning",
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::ResourceWarning",
)
IDS = [f"BDMAP_{n:08d}" for n in range(1, 17)]
TEST = IDS[12:]
# TotalSegmentator's ids of what phantoms have below the diaphragm, and around it.
ORGANS = {"spleen": 1, "liver_segment_1": 5, "stomach": 6, "aorta": 52}
BOXES = {"kidney_left": 8, "pancreas_body": 16}  # where they begin along x
LESIONS = {"liver_lesion": 12, "kidney_lesion": 9, "pancreatic_lesion": 17}


def lesions_of(number: int) -> list[int]:
    """Count the lesions of a CT in liver, kidney and pancreas: every combination occurs."""
    return [number >> organ & 1 for organ in range(3)]


def report_of(number: int) -> str:
    counted = zip(ABDOMEN_LESIONS, lesions_of(number), strict=True)
    said = [f"{name} 1: hypodense." for name, count in counted if count]
    return f"FINDINGS: Case {number}. {' '.join(said) or 'Organs are normal.'} IMPRESSION: Seen."


def masks_of(number: int, total: LabelMap) -> dict[str, LabelMap]:
    """Draw what AbdomenAtlas publishes for a CT; a structure that is not there has no file."""
    drawn = {name: total.array == i for name, i in ORGANS.items()}
    wanted = BOXES | {
        name: x for (name, x), n in zip(LESIONS.items(), lesions_of(number), strict=True) if n
    }
    for name, x in wanted.items():
        size = 2 if name in LESIONS else 4
        drawn[name] = np.zeros_like(total.array, bool)
        drawn[name][4 : 4 + size, 10 : 10 + size, x : x + size] = True
    return {name: LabelMap(mask.astype(np.uint8), total.affine) for name, mask in drawn.items()}


@pytest.fixture
def published(tmp_path: Path) -> dict[str, bytes]:
    """Tables and archives of sixteen CTs."""
    phantoms, manifest = Phantoms(few_patients(12), 0), tmp_path / "phantoms.jsonl"
    phantoms.fetch(manifest, lambda _: [])
    cases, _ = phantoms.cases(rows_by_case(manifest))
    images: dict[str, bytes] = {}
    masks: dict[str, bytes] = {}
    rows = [",".join(COLUMNS)]
    for number, (name, case) in enumerate(zip(IDS, cases, strict=True)):
        images[f"{name}/ct.nii.gz"] = (store_root() / case.volume).read_bytes()
        total = read_label_map(store_root() / mask_path(case, "total"))
        for structure, mask in masks_of(number, total).items():
            write_label_map(tmp_path / "mask.nii.gz", mask)
            content = (tmp_path / "mask.nii.gz").read_bytes()
            masks[f"{name}/segmentations/{structure}.nii.gz"] = content
        counts = ",".join(map(str, lesions_of(number)))
        rows.append(f'{name},{counts},"{report_of(number)}",Told.')
    lists = {TRAIN_IDS: IDS[:12], TEST_IDS: TEST}
    return {
        TABLE: "\n".join(rows).encode(),
        **{path: "\n".join(["BDMAP ID", *ids]).encode() for path, ids in lists.items()},
        archive("images", IDS[0]): tar_of(images),
        archive("masks", IDS[0]): tar_of(masks),
    }


def reads_headings(report: str) -> chat_server.Reply:
    """A language model that finds a lesion where the report begins a line about it."""
    said = {name: "present" if f"{name} 1:" in report else "absent" for name in ABDOMEN_LESIONS}
    return chat_server.completion(json.dumps(said))


@pytest.fixture
def services(
    published: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[FakeHub, chat_server.Server]]:
    """Hub and language model, with the variables that lead to them and to Qwen3."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    qwen = write_qwen(tmp_path / "qwen", [report_of(n) for n in range(8)])
    hub = FakeHub({}, others={REPO: published})
    with serve(hub), chat_server.serve(chat_server.Server(reads_headings)) as model:
        places = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "UVLM_QWEN3": str(qwen)}
        places |= {"UVLM_LLM_URL": model.url, "UVLM_LLM_MODEL": "tiny"}
        for name, value in places.items():
            monkeypatch.setenv(name, value)
        yield hub, model
    close_session()


@pytest.fixture
def project(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The profile `abdomen` with the sizes of the tiny phantoms, as the working directory."""
    document = compose(root, "abdomen")
    small = {key: value for key, value in TINY.items() if not key.startswith("download.")}
    small |= {"encoder.strides": [1, 2, 2, 2, 1, 1], "encoder.blocks": [1] * 6}
    for key, value in small.items():
        section: Any = document
        *parents, name = key.split(".")
        for parent in parents:
            section = section[parent]
        assert name in section, key
        section[name] = value
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(root / "dvc.yaml", folder)
    for package in ("uvlm", "pipeline"):  # which the stage `code` reads
        (folder / package).symlink_to(root / package)
    write_params(folder, document)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DVC_ROOT", str(folder))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/nowhere/mlflow.db")
    for name, value in _KEEP_MEMORY.items():  # which a stage would restart the process for
        monkeypatch.setenv(name, value)
    return folder


def run(command: str, monkeypatch: pytest.MonkeyPatch) -> object:
    """Run a stage's script as DVC does, but in this process, which has imported everything."""
    script, *arguments = command.split()[2:]
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(script, run_name="__main__", alter_sys=True)
    return ended.value.code


@ours_alone
def test_the_atlas_becomes_a_scored_model(
    root: Path,
    project: Path,
    services: tuple[FakeHub, chat_server.Server],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hub, model = services
    for stage in read_declarations(root).values():
        assert run(stage.command, monkeypatch) == 0, capsys.readouterr().err[-3000:]
    manifests, reports = project / "data/manifests", project / "reports"
    assert hub.counted("tar.gz") > 0
    maps = rows_by_case(manifests / "label_maps.jsonl")
    assert set(maps) == set(IDS)  # every CT is annotated
    for number, name in enumerate(IDS):
        drawn = {13 + n for n, lesion in enumerate(lesions_of(number)) if lesion}
        assert {int(i) for i in maps[name].extra["voxels"] if int(i) > 12} == drawn
    audit = json.loads((reports / "audit.json").read_text())["stage_1"]
    assert audit == {"cases": "annotated", "train": 8, "val": 4, "test": 4, "in_the_paper": None}
    metrics = json.loads((reports / "metrics.json").read_text())
    assert metrics["n"] == len(TEST)
    assert metrics["protocol"]["labeller"] == "llm"
    # The references, read by the model, are what the table says of them.
    assert metrics["oracle"]["macro_f1"] == 1.0
    asked = {request["messages"][-1]["content"] for request in model.requests}
    assert sum("Case 12." in text for text in asked) == 1
    assert (project / "data/models/report/decoder.safetensors").is_file()
    page = (reports / "summary.md").read_text()
    assert "Pancreatic lesion" in page
