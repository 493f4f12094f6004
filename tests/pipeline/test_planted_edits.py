"""Which stages an edit of the code reruns; the expected sets were worked out by hand."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from pipeline.dvc_yaml import params_by_script
from pipeline.reach import PACKAGES, Checkout

ROOT = Path(__file__).parents[2]
SCRIPTS = params_by_script(ROOT)

EVERY = set(SCRIPTS)
TRAININGS = {"train_seg", "train_cls", "train_report"}
READING_CTS = {"preprocess", "pseudo_label"}
# Where the table has no labels, where sides and lobes are read from training reports, where written
# reports are judged, where they are scored.
LABELLING = {"download", "train_cls", "train_report", "generate", "evaluate", "summarize"}
PAGES = {"audit", "summarize"}


class Edit(NamedTuple):
    """`old` becomes `new` in a file, and these stages have to run again."""

    what: str
    file: str
    old: str
    new: str
    reruns: set[str]


EDITS = [
    # What is no code, or no code that a result hangs on.
    Edit("docstring", "uvlm/train/loop/fit.py", "The one training loop", "The loop", set()),
    Edit("docstring of a function", "uvlm/store/arrays.py", "Hash dtype", "Digest dtype", set()),
    Edit("comment", "uvlm/train/losses/objectives.py", "# (B, A)", "# (batch, 18)", set()),
    Edit(
        "blank line",
        "uvlm/train/losses/objectives.py",
        "        logits =",
        "\n        logits =",
        set(),
    ),
    Edit(
        "parentheses",
        "uvlm/train/losses/objectives.py",
        "= model(batch.x)  #",
        "= (model(batch.x))  #",
        set(),
    ),
    Edit(
        "import for type checkers",
        "uvlm/train/loop/fit.py",
        "import Fabric",
        "import Fabric as Fabric",
        set(),
    ),
    Edit(
        "function that nobody calls",
        "uvlm/train/losses/losses.py",
        "\ndef class_weights(",
        "\ndef unused() -> None: ...\n\n\ndef class_weights(",
        set(),
    ),
    Edit(
        "collecting garbage in the store",
        "uvlm/store/upkeep.py",
        "if not is_named and not is_being_made(path)",
        "if not (is_named or is_being_made(path))",
        set(),
    ),
    Edit("MLflow", "pipeline/runs/mlflow_calls.py", "_MAX_BATCH = 900", "_MAX_BATCH = 90", set()),
    Edit("how a stage is run", "pipeline/stage.py", "500000000", "400000000", set()),
    Edit("error text", "uvlm/errors.py", "; {self.remedy}", ", {self.remedy}", set()),
    Edit("command", "uvlm/cli.py", "import typer\n", "import typer  \nprint(1)\n", set()),
    # Data.
    Edit(
        "DICOM",
        "uvlm/data/ct/formats/dicom.py",
        "> _UNEVEN * step",
        "> 2 * _UNEVEN * step",
        READING_CTS,
    ),
    Edit(
        "choice of a series, which a user's own data are copied by",
        "uvlm/data/ct/formats/dicom_choice.py",
        "-one.num_slices, number",
        "one.num_slices, number",
        {"download", "index", *READING_CTS},
    ),
    Edit(
        "NIfTI",
        "uvlm/data/ct/formats/nifti.py",
        '4: "i2"',
        '4: "u2"',
        READING_CTS | {"label_maps", "evaluate"},
    ),
    Edit(
        "painter of phantoms",
        "uvlm/data/sets/phantom/canvas.py",
        "(0.46, -0.05,",
        "(0.47, -0.05,",
        {"download", "index"},  # the index asks the same table of data sets
    ),
    Edit(
        "child process of TotalSegmentator",
        "uvlm/data/labels/pseudo/totalsegmentator_child.py",
        "sys.argv[1:]",
        "sys.argv[2:]",
        {"pseudo_label"},
    ),
    Edit(
        "names of classes",
        "uvlm/data/schemes/chest.json",
        '"spleen"',
        '"milt"',
        {
            "download",
            "index",
            "pseudo_label",
            "label_maps",
            "audit",
            "train_seg",
            "train_report",
            "evaluate",
            "summarize",
        },
    ),
    Edit("plausible volumes", "uvlm/data/plausible/adult.json", '"ml"', '"l"', {"audit"}),
    Edit(
        "excluded scans",
        "uvlm/data/sets/ct_rate/exclusions.json",
        "train_1267_a_4",
        "train_1267_a_5",
        {"download", "index"},
    ),
    Edit(
        "arrays as stored",
        "uvlm/store/arrays.py",
        "clevel=1",
        "clevel=5",
        READING_CTS | {"label_maps", "encode", "generate"},
    ),
    Edit(
        "script",
        "pipeline/index.py",
        "import annotations\n",
        "import annotations\n\nprint(1)\n",
        {"index"},
    ),
    # Learning.
    Edit(
        "smoothing of Dice",
        "uvlm/train/losses/dice_sums.py",
        "1e-5",
        "1e-4",
        {"train_seg"},
    ),
    Edit(
        "weights of the cross-entropy",
        "uvlm/train/losses/losses.py",
        "def class_weights(",
        "@torch.no_grad()\ndef class_weights(",
        {"train_seg"},
    ),
    Edit(
        "loss of the classifier",
        "uvlm/train/losses/objectives.py",
        '{"bce": bce}',
        '{"bce": 2 * bce}',
        {"train_cls"},
    ),
    Edit(
        "loop",
        "uvlm/train/loop/fit.py",
        "range(start, config.steps)",
        "range(start + 1, config.steps)",
        TRAININGS,
    ),
    Edit(
        "augmentation",
        "uvlm/train/augmentation/spatial.py",
        'padding_mode="border"',
        'padding_mode="zeros"',
        TRAININGS | {"encode"},
    ),
    Edit(
        "U-Net",
        "uvlm/model/unet.py",
        '"eps": 1e-5',
        '"eps": 1e-4',
        TRAININGS | {"classify", "encode", "generate"},
    ),
    Edit("decoder", "uvlm/model/decoder.py", "10000.0", "5000.0", {"train_report", "generate"}),
    Edit(
        "sliding window",
        "uvlm/inference/sliding_window.py",
        "def gaussian_weight(",
        "@torch.no_grad()\ndef gaussian_weight(",
        {"train_seg", "train_report", "generate"},
    ),
    Edit(
        "tokenizer",
        "uvlm/text/tokenizer.py",
        "add_special_tokens=False",
        "add_special_tokens=True",
        {"tokenizer", "train_report", "generate"},
    ),
    # Words, scores and pages.
    Edit(
        "pattern of an abnormality",
        "uvlm/evaluation/labelling/patterns/pleura.yaml",
        "thorax, ",
        "",
        LABELLING,
    ),
    Edit(
        "rules", "uvlm/evaluation/labelling/rules.py", "clause.split(", "clause.rsplit(", LABELLING
    ),
    Edit("score", "uvlm/evaluation/bleu.py", "1e-9", "1e-8", {"evaluate"}),
    Edit(
        "what an import means",
        "uvlm/evaluation/surface.py",
        "import numpy as np",
        "import cupy as np",
        {"evaluate"},
    ),
    Edit("page", "uvlm/pages/templates/summary.html.j2", "<html", "<HTML", PAGES),
    Edit("style sheet", "uvlm/pages/templates/summary.css", "#fff", "#eee", PAGES),
    # Parameters.
    Edit(
        "parameter of one training",
        "uvlm/config/train.py",
        "feature_noise_std: float = Field(ge=0)",
        "feature_noise_std: float = 0.0",
        {"train_report"},
    ),
    Edit(
        "parameter of all trainings",
        "uvlm/config/train.py",
        "roll_voxels:",
        "shift_voxels:",
        TRAININGS | {"encode", "generate", "summarize"},
    ),
    Edit(
        "parameter of a data set",
        "uvlm/config/data.py",
        "    revision: str = Field(min_length=1)",
        "    revision: str = 'main'",
        {"download", "index"},
    ),
    Edit(
        "check of all parameters",
        "uvlm/config/params.py",
        "num_weights >= ",
        "num_weights > ",
        EVERY,
    ),
]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of all that is imported."""
    copy = tmp_path_factory.mktemp("checkout")
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    return copy


def digests(root: Path) -> dict[str, str]:
    sources = Checkout(root)
    return {script: sources.describe(script, keys)["digest"] for script, keys in SCRIPTS.items()}


@pytest.fixture(scope="module")
def before(checkout: Path) -> dict[str, str]:
    return digests(checkout)


@pytest.mark.slow
@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.what)
def test_an_edit_reruns_the_stages_that_it_changes_and_no_other(
    edit: Edit, checkout: Path, before: Mapping[str, str]
) -> None:
    path = checkout / edit.file
    text = path.read_text(encoding="utf-8")
    assert edit.old in text
    path.write_text(text.replace(edit.old, edit.new, 1), encoding="utf-8")
    try:
        after = digests(checkout)
    finally:
        path.write_text(text, encoding="utf-8")
    assert {script for script in SCRIPTS if after[script] != before[script]} == edit.reruns
