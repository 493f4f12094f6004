"""Model folders of tiny networks, and CTs that the strict reader accepts.

No network is trained, which takes too long; the folders say that every part was.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from uvlm.config import Params, parse_params
from uvlm.data.contract import contract
from uvlm.data.ct.volume import Volume
from uvlm.data.label_scheme import scheme
from uvlm.model.build import build_classifier, build_unet, build_uvlm
from uvlm.model.cues import CueSizes
from uvlm.model.folder import save_model
from uvlm.model.model_config import ReportModelConfig, SegModelConfig
from uvlm.model.trained import PARTS
from uvlm.model.uvlm import SpecialIds
from uvlm.model.weights import weights_of
from uvlm.text.abnormalities import ABNORMALITIES
from uvlm.text.attributes import VALUE_NAMES
from uvlm.text.tokenizer import train_tokenizer

GRID = (8, 16, 16)
CHANGES = {
    "preprocess": {"grid": GRID},
    "encoder": {
        "channels": [4, 4, 8, 8, 8, 8],
        "strides": [1, 2, 2, 1, 1, 1],
        "blocks": [1] * 6,
        "decoder_convs": 1,
    },
    "classifier": {"num_queries": 4, "heads": 2},
    "decoder": {"layers": 6, "max_report_tokens": 24},
    "train_seg": {"patch": [8, 8, 8]},
    "generate": {"batch_size": 2},
    "encode": {"dtype": "float32"},
}
NAMES = scheme("chest", "fine_lesion").names
TEXTS = ["Findings: The heart is large. Impressions: Cardiomegaly.", "Findings: No effusion."]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


_MADE: dict[str, Any] = {}  # what is slow to make and the same for every test of the session


@pytest.fixture
def params(request: pytest.FixtureRequest) -> Params:
    if "params" not in _MADE:
        document = request.getfixturevalue("tiny_document")
        for section, values in CHANGES.items():
            document[section] |= values
        _MADE["params"] = parse_params(document, "tests")
    made: Params = _MADE["params"]
    return made


@pytest.fixture
def seg_folder(params: Params, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if "seg" not in _MADE:
        _MADE["seg"] = tmp_path_factory.mktemp("seg") / "seg"
        make_seg_folder(params, _MADE["seg"])
    return shutil.copytree(_MADE["seg"], tmp_path / "models" / "seg")


@pytest.fixture
def report_folder(params: Params, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if "report" not in _MADE:
        _MADE["report"] = tmp_path_factory.mktemp("report") / "report"
        make_report_folder(params, _MADE["report"])
    return shutil.copytree(_MADE["report"], tmp_path / "models" / "report")


def make_seg_folder(params: Params, folder: Path) -> None:
    torch.manual_seed(1)
    unet = build_unet(params.encoder, len(NAMES), deep_supervision=False)
    trained = PARTS[:2]
    config = SegModelConfig(encoder=params.encoder, grid=GRID, class_names=NAMES, trained=trained)
    modules = {"unet": weights_of(unet), "encoder": weights_of(unet.encoder)}
    save_model(folder, modules, config, contract(params.preprocess))


def forget(folder: Path, part: str) -> None:
    """Let a model folder say that one of its parts was not trained."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["trained"].remove(part)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def make_report_folder(params: Params, folder: Path) -> None:
    """A report model whose untrained weights are large enough for reports to differ."""
    tokenizer = train_tokenizer(TEXTS, 300)
    tokenizer.save(folder.parent / "tokenizer")
    specials = SpecialIds(
        tokenizer.pad_id,
        tokenizer.start_of_image_id,
        tokenizer.end_of_image_id,
        tokenizer.bos_id,
        tokenizer.eos_id,
    )
    torch.manual_seed(3)
    unet = build_unet(params.encoder, len(NAMES), deep_supervision=False)
    values = VALUE_NAMES if params.classifier.attributes else ()
    sizes = params.encoder, params.classifier, GRID, len(ABNORMALITIES), len(values)
    classifier = build_classifier(*sizes)
    uvlm = build_uvlm(
        params.encoder,
        params.decoder,
        params.injection,
        GRID,
        tokenizer.vocabulary_size,
        specials,
        cue_sizes=CueSizes.of(ABNORMALITIES, values, params.classifier.num_queries),
    )
    if classifier.attributes is not None:
        classifier.attributes.weight.normal_()
    for name, weight in [*classifier.named_parameters(), *uvlm.named_parameters()]:
        if "embedding" not in name:  # else every token would follow itself
            strength = 3.0 if "projections" in name else 0.3  # reports depend on the image
            weight.data.add_(strength * torch.randn_like(weight))
    config = ReportModelConfig(
        encoder=params.encoder,
        grid=GRID,
        params=params.model_dump(mode="json"),
        trained=PARTS,
        class_names=NAMES,
        classifier=params.classifier,
        abnormalities=ABNORMALITIES,
        attributes=values,
        decoder=params.decoder,
        injection=params.injection,
        vocabulary_size=tokenizer.vocabulary_size,
        specials=specials,
    )
    modules = {
        "unet": weights_of(unet),
        "encoder": weights_of(unet.encoder),
        "classifier": weights_of(classifier),
        "decoder": weights_of(uvlm),
    }
    rules = contract(params.preprocess) | {"label_names": list(NAMES)}
    files = {"tokenizer.json": (folder.parent / "tokenizer" / "tokenizer.json").read_bytes()}
    save_model(folder, modules, config, rules, files)


def body(seed: int = 0, shape: tuple[int, int, int] = (10, 20, 24)) -> npt.NDArray[np.int16]:
    """Air around soft tissue in patches, with a bone in the upper, left, front quarter."""
    rng = np.random.default_rng(seed)
    hu = np.full(shape, -1000, dtype=np.int16)
    depth, height, width = shape
    patches = rng.integers(-150, 200, [size // 4 + 1 for size in shape])
    tissue = patches.repeat(4, 0).repeat(4, 1).repeat(4, 2)
    hu[1:-1, 3:-3, 3:-3] = tissue[1 : depth - 1, 3 : height - 3, 3 : width - 3]
    hu[depth // 2 + 1 : -2, 5:9, width // 2 + 2 : -4] = 900
    return hu + rng.integers(-15, 15, shape).astype(np.int16)


def lps(array: npt.NDArray[np.int16]) -> Volume:
    """A volume in canonical axes, voxels of 5 x 2 x 1.5 mm."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = 5.0, 2.0, 1.5, 1.0
    affine[:3, 3] = (-12.0, 7.0, 30.0)
    return Volume(array, affine)
