"""The airway network: rebuilt from its state dict, and what is done before and after it."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file
from scipy import ndimage
from torch import Tensor
from torch.nn import functional
from typer.testing import CliRunner

from uvlm.cli import app
from uvlm.config import AirwayConfig
from uvlm.data.ct.io import read_label_map, read_volume
from uvlm.data.ct.volume import AxisOrder, Volume
from uvlm.data.labels.pseudo.atm22 import Atm22, airways, largest_component, load_network, scaled
from uvlm.data.labels.pseudo.atm22_import import import_atm22, weights_file
from uvlm.errors import ConfigError, DataError, SetupError
from uvlm.files import store_root
from uvlm.store import read_manifest

if TYPE_CHECKING:
    from tests.data.conftest import Stages

# Widths of the published state dict: in, Conv1, Conv2 of every layer.
LAYERS = {
    "EncoderLayer1": (1, 8, 16),
    "EncoderLayer2": (16, 16, 32),
    "EncoderLayer3": (32, 32, 64),
    "EncoderLayer4": (64, 64, 128),
    "DecoderLayer1": (192, 64, 64),
    "DecoderLayer2": (96, 32, 32),
    "DecoderLayer3": (48, 16, 16),
}


def published_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"final_conv.weight": (2, 16, 1, 1, 1)}
    shapes["final_conv.bias"] = (2,)
    for layer, widths in LAYERS.items():
        for number, (before, after) in enumerate(itertools.pairwise(widths), 1):
            name = f"{layer}.basic_module.Conv{number}"
            shapes[f"{name}.conv.weight"] = (after, before, 3, 3, 3)
            for part in ("conv.bias", "instancenorm.weight", "instancenorm.bias", "pReLU.weight"):
                shapes[f"{name}.{part}"] = (after,)
    return shapes


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A random checkpoint with the published names and shapes."""
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.randn(shape, generator=generator) * (0.2 if len(shape) > 1 else 0.5)
        for name, shape in published_shapes().items()
    }
    torch.save(weights, tmp_path / "weight.pth")
    return tmp_path / "weight.pth"


def by_hand(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """Run the published network from its state dict, layer by layer."""

    def layer(name: str, x: Tensor) -> Tensor:
        for number in (1, 2):
            w = {
                part.removeprefix(f"{name}.basic_module.Conv{number}."): value
                for part, value in weights.items()
                if part.startswith(f"{name}.basic_module.Conv{number}.")
            }
            x = functional.conv3d(x, w["conv.weight"], w["conv.bias"], padding=1)
            mean = x.mean(dim=(2, 3, 4), keepdim=True)
            x = (x - mean) / (x.var(dim=(2, 3, 4), keepdim=True, correction=0) + 1e-5).sqrt()
            x = x * w["instancenorm.weight"].view(1, -1, 1, 1, 1)
            x = x + w["instancenorm.bias"].view(1, -1, 1, 1, 1)
            x = torch.where(x > 0, x, x * w["pReLU.weight"].view(1, -1, 1, 1, 1))
        return x

    skips = [layer("EncoderLayer1", x)]
    for number in (2, 3, 4):
        skips.append(layer(f"EncoderLayer{number}", functional.max_pool3d(skips[-1], 2)))
    x = skips.pop()
    for number in (1, 2, 3):
        skip = skips.pop()
        size = [int(n) for n in skip.shape[2:]]
        x = functional.interpolate(x, size=size, mode="trilinear", align_corners=True)
        x = layer(f"DecoderLayer{number}", torch.cat((skip, x), dim=1))
    x = functional.conv3d(x, weights["final_conv.weight"], weights["final_conv.bias"])
    return 1 / (1 + torch.exp(-x[:, 1:2]))


def test_the_network_is_the_published_one(published: Path, tmp_path: Path) -> None:
    from uvlm.data.labels.pseudo.atm22_network import AirwayUNet

    import_atm22(published, tmp_path / "airway.safetensors")
    network = AirwayUNet()
    network.load_state_dict(load_file(tmp_path / "airway.safetensors"))
    assert sum(p.numel() for p in network.parameters()) == 1_022_106
    x = torch.rand(1, 1, 16, 24, 20)
    with torch.inference_mode():
        expected = by_hand(torch.load(published, weights_only=True), x)
        found = network.eval()(x)
    assert found.shape == x.shape
    assert float(expected.std()) > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_small_volume_is_continued_by_its_edge_to_one_window(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uvlm.data.labels.pseudo.atm22.WINDOW", 32)
    monkeypatch.setenv("UVLM_ATM22_WEIGHTS", str(published))
    x = np.random.default_rng(0).random((20, 32, 27)).astype(np.float32)
    found = load_network(weights_file())(x)
    padded = torch.from_numpy(np.pad(x, ((6, 6), (0, 0), (2, 3)), mode="edge"))
    with torch.inference_mode():
        whole = by_hand(torch.load(published, weights_only=True), padded[None, None])[0, 0]
    np.testing.assert_allclose(found, whole[6:26, :, 2:29].numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_large_volume_passes_in_windows_that_overlap(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uvlm.data.labels.pseudo.atm22.WINDOW", 32)
    monkeypatch.setenv("UVLM_ATM22_WEIGHTS", str(published))
    x = np.random.default_rng(0).random((56, 32, 32)).astype(np.float32)
    found = load_network(weights_file())(x)
    weights = torch.load(published, weights_only=True)
    line = torch.exp(-0.5 * ((torch.arange(32) - 15.5) / (32 * 0.125)) ** 2)
    weight = (line.view(-1, 1, 1) * line.view(-1, 1) * line).clamp(min=1e-3)
    total, share = torch.zeros(56, 32, 32), torch.zeros(56, 32, 32)
    for start in (0, 24):  # 56 voxels are two windows of 32 that share a quarter
        window = torch.from_numpy(x[start : start + 32])[None, None]
        with torch.inference_mode():
            total[start : start + 32] += by_hand(weights, window)[0, 0] * weight
        share[start : start + 32] += weight
    np.testing.assert_allclose(found, (total / share).numpy(), rtol=1e-3, atol=1e-3)


def test_the_weights_are_known_by_their_content_however_they_are_named(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_atm22(published, tmp_path / "airway.safetensors")
    digests = []
    for path in (published, tmp_path / "airway.safetensors"):
        monkeypatch.setenv("UVLM_ATM22_WEIGHTS", str(path))
        told = Atm22(None).provenance()
        digests.append(told.weights_sha256)
        assert told.licence == "MIT"
    assert digests[0] == digests[1]
    converted = list((store_root() / "weights").iterdir())
    assert [path.suffix for path in converted] == [".safetensors"]


def test_the_command_writes_what_the_backend_reads(published: Path, tmp_path: Path) -> None:
    out = tmp_path / "airway.safetensors"
    result = CliRunner().invoke(app, ["import-atm22", str(published), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert f"UVLM_ATM22_WEIGHTS={out}" in result.output
    load_network(out)
    with pytest.raises(ConfigError, match="exists"):
        import_atm22(published, out)
    with pytest.raises(ConfigError, match="does not end in"):
        import_atm22(published, tmp_path / "airway.pth")


class Boom:
    """What runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("touched"),)


def test_what_is_not_that_checkpoint_is_refused_and_nothing_is_run_or_written(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    weights = torch.load(published, weights_only=True)
    bad: dict[str, Any] = {
        "missing": {k: v for k, v in weights.items() if k != "final_conv.bias"},
        "more": weights | {"classifier.weight": torch.zeros(2)},
        "shape": weights | {"final_conv.bias": torch.zeros(3)},
        "list": [1, 2],
    }
    for name, content in bad.items():
        torch.save(content, tmp_path / f"{name}.pth")
    (tmp_path / "code.pth").write_bytes(pickle.dumps(Boom()))
    (tmp_path / "cut.pth").write_bytes(published.read_bytes()[:5000])
    (tmp_path / "html.pth").write_text("<html>")
    for name in (*bad, "code", "cut", "html", "absent"):
        with pytest.raises(DataError) as caught:
            import_atm22(tmp_path / f"{name}.pth", tmp_path / "out.safetensors")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "touched").exists()
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("value", [None, "/nowhere/weight.pth"])
def test_without_weights_nothing_begins(
    stages: Stages, value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is None:
        monkeypatch.delenv("UVLM_ATM22_WEIGHTS", raising=False)
    else:
        monkeypatch.setenv("UVLM_ATM22_WEIGHTS", value)
    stages.index()
    use(stages)
    with pytest.raises(SetupError, match=r"UVLM_ATM22_WEIGHTS: .*import-atm22"):
        stages.pseudo_label("airway")
    assert not stages.manifest("airway").exists()
    assert not (store_root() / "pseudo_label").exists()


def use(stages: Stages, spacing_mm: float | None = None) -> None:
    section = AirwayConfig(backend="atm22", spacing_mm=spacing_mm)
    labellers = stages.params.pseudo_label.model_copy(update={"airway": section})
    stages.params = stages.params.model_copy(update={"pseudo_label": labellers})


@pytest.mark.slow
def test_the_stage_loads_the_network_once_and_tells_its_options(
    stages: Stages, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from uvlm.data.labels.pseudo import atm22

    monkeypatch.setattr(atm22, "WINDOW", 16)
    monkeypatch.setenv("UVLM_ATM22_WEIGHTS", str(published))
    loads: list[Path] = []
    load = atm22.load_network

    def counting(path: Path) -> Any:
        loads.append(path)
        return load(path)

    monkeypatch.setattr(atm22, "load_network", counting)
    stages.index()
    use(stages)
    assert stages.pseudo_label("airway") == {"kept": 11}
    assert len(loads) == 1
    rows = read_manifest(stages.manifest("airway"))
    assert {str(row.extra["options"]) for row in rows} == {"{'spacing_mm': None}"}
    use(stages, spacing_mm=4.0)
    stages.pseudo_label("airway")
    other = read_manifest(stages.manifest("airway"))
    assert {row.key for row in rows} & {row.key for row in other} == set()


AFFINE = np.array([[0.0, 0, 2, -40], [0, 2, 0, -50], [3, 0, 0, 60], [0, 0, 0, 1]])


def tube() -> tuple[npt.NDArray[np.int16], npt.NDArray[np.bool_]]:
    """An airway of 6 by 6 voxels from top to bottom in tissue, and a smaller pocket of air."""
    hu = np.full((20, 24, 22), 40, np.int16)
    lumen = np.zeros(hu.shape, bool)
    lumen[2:18, 8:14, 6:12] = True
    hu[lumen] = -980
    hu[3:6, 18:21, 16:19] = -980
    return hu, lumen


def is_air(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A network that knows air: 0 is -1000 HU, 1 is 400 HU."""
    return (x < 0.3).astype(np.float32)


def test_one_component_is_kept_in_every_orientation() -> None:
    hu, lumen = tube()
    found = airways(Volume(hu, AFFINE), is_air, None)
    np.testing.assert_array_equal(found.array > 0, lumen)
    order = AxisOrder((2, 0, 1), (True, False, True))
    stored = Volume(order.backward(hu), order.stored_affine(AFFINE, hu.shape))
    turned = airways(stored, is_air, None)
    np.testing.assert_array_equal(order.forward(turned.array) > 0, lumen)
    np.testing.assert_array_equal(turned.affine, stored.affine)


@pytest.mark.parametrize("spacing_mm", [1.0, 1.7, 2.0])
def test_another_working_grid_comes_back_onto_the_ct(spacing_mm: float) -> None:
    hu, lumen = tube()
    shapes = []

    def network(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        shapes.append(x.shape)
        return is_air(x)

    found = airways(Volume(hu, AFFINE), network, spacing_mm).array > 0
    assert shapes == [
        tuple(round(n * mm / spacing_mm) for n, mm in zip(hu.shape, (3, 2, 2), strict=True))
    ]
    assert not (found & ~lumen).any()  # more wall than lumen is no airway
    assert np.count_nonzero(found) >= 0.95 * np.count_nonzero(lumen)
    assert ndimage.label(found, np.ones((3, 3, 3)))[1] == 1


def test_a_ct_without_airways_gets_an_empty_map() -> None:
    hu = np.full((10, 10, 10), 40, np.int16)
    assert not airways(Volume(hu, AFFINE), is_air, None).array.any()


def test_voxels_that_touch_at_a_corner_are_one_piece() -> None:
    mask = np.zeros((4, 4, 4), bool)
    mask[[0, 1, 2], [0, 1, 2], [0, 1, 2]] = True
    mask[3, 0, 0:2] = True
    assert np.count_nonzero(largest_component(mask)) == 3


def test_hounsfield_units_are_clipped_and_scaled() -> None:
    array = np.array([-2000, -1000, -300, 400, 3000], np.int16)
    np.testing.assert_allclose(scaled(array), [0, 0, 0.5, 1, 1])


@pytest.fixture
def real_weights(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = real_data / "weights/atm22_airway_unet.pth"
    monkeypatch.setenv("UVLM_ATM22_WEIGHTS", str(path))
    return path


@pytest.mark.slow
def test_the_real_network_finds_air_in_a_real_thorax_at_4_mm(
    real_weights: Path, real_data: Path
) -> None:
    volume = read_volume(real_data / "ct/thorax_ct-64.nrrd")
    lungs = read_label_map(real_data / "ct/thorax_wholeLung-64.nrrd").array > 0
    found = airways(volume, load_network(weights_file()), None).array > 0
    assert ndimage.label(found, np.ones((3, 3, 3)))[1] == 1
    assert float(volume.array[found].mean()) < -850
    millilitres = np.count_nonzero(found) * np.prod(volume.spacing) / 1000
    assert 15 < millilitres < 60  # the trachea and the main bronchi of an adult
    assert np.count_nonzero(found & lungs) < 0.1 * np.count_nonzero(found)
    z = np.nonzero(found)[0]
    assert z.max() == volume.array.shape[0] - 1  # up to the neck, where the CT ends
    assert z.min() > volume.array.shape[0] / 2  # down to the hilum: at 4 mm no further


def test_the_real_checkpoint_has_the_published_shapes(real_weights: Path) -> None:
    weights = torch.load(real_weights, map_location="cpu", weights_only=True)
    assert {name: tuple(w.shape) for name, w in weights.items()} == published_shapes()
