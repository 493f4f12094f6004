"""`uvlm check-labels` as it is typed: lines, JSON, page, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from tests.data.labels.test_rules import AFFINE, phantom
from uvlm.data.ct.io import read_label_map, write_label_map, write_volume
from uvlm.data.ct.volume import LabelMap, Volume


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A phantom and its anatomy as ids of the chest scheme."""
    ids, hu, _ = phantom(2)
    write_volume(tmp_path / "ct.nii.gz", Volume(hu, AFFINE))
    write_label_map(tmp_path / "labels.nii.gz", LabelMap(ids, AFFINE))
    return tmp_path / "ct.nii.gz", tmp_path / "labels.nii.gz"


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["check-labels", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


@pytest.mark.slow
def test_plausible_labels_are_said_to_be(files: tuple[Path, Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    code, out = run(*files, "--scheme", "chest", "--plausible", "phantom", "--page", page)
    assert code == 0
    assert "nothing implausible" in out
    assert "0 of 1 flagged" in page.read_text()


def test_faults_are_named_and_flags_leave_the_exit_code_0(files: tuple[Path, Path]) -> None:
    labels = read_label_map(files[1])
    write_label_map(files[1], LabelMap(labels.array[:, :, ::-1].copy(), labels.affine))
    code, out = run(*files, "--scheme", "chest", "--plausible", "phantom", "--json")
    document = json.loads(out)
    assert code == 0
    assert document["flagged"]
    assert {"side"} <= {flag["rule"] for flag in document["flags"]}
    assert document["structures"]["liver"]["ml"] > 100
    assert "side" in run(*files, "--scheme", "chest", "--plausible", "phantom")[1]


def test_labels_on_a_finer_grid_in_other_axes_are_brought_onto_the_ct(
    files: tuple[Path, Path],
) -> None:
    labels = read_label_map(files[1])
    finer = labels.array.repeat(2, axis=1)[:, :, ::-1].copy()
    affine = AFFINE.copy()
    affine[1, 1], affine[1, 3] = 3.5, -1.75
    affine[0, 2], affine[0, 3] = -7.0, 7.0 * (labels.array.shape[2] - 1)
    plain = json.loads(run(*files, "--scheme", "chest", "--json")[1])
    write_label_map(files[1], LabelMap(finer, affine))
    moved = json.loads(run(*files, "--scheme", "chest", "--json")[1])
    assert (plain["regridded"], moved["regridded"]) == (False, True)
    assert moved["structures"] == plain["structures"]


@pytest.mark.parametrize(
    ("options", "code", "fact"),
    [
        (["--scheme", "bones"], 2, "use total, chest, abdomen"),
        (["--plausible", "child"], 2, "use adult or phantom"),
        (["--scheme", "abdomen", "--page", "nowhere/page.html"], 2, "a folder that does not exist"),
    ],
)
def test_wrong_options_are_usage_errors(
    files: tuple[Path, Path], options: list[str], code: int, fact: str
) -> None:
    with pytest.raises(Exception, match=fact) as error:
        run(*files, *options)
    assert error.value.exit_code == code  # type: ignore[attr-defined]


def test_labels_of_another_body_are_refused(files: tuple[Path, Path]) -> None:
    affine = AFFINE.copy()
    affine[0, 3] += 5000.0
    write_label_map(files[1], LabelMap(read_label_map(files[1]).array, affine))
    with pytest.raises(Exception, match="lies beside the CT") as error:
        run(*files, "--scheme", "chest")
    assert error.value.exit_code == 3  # type: ignore[attr-defined]


def test_ids_beyond_the_scheme_are_refused(files: tuple[Path, Path]) -> None:
    labels = read_label_map(files[1]).array.copy()
    labels[0, 0, 0] = 117
    write_label_map(files[1], LabelMap(labels, AFFINE))
    with pytest.raises(Exception, match="holds the id 117, the classes of chest end at 48"):
        run(*files, "--scheme", "chest")


def test_a_real_ct_that_its_border_cuts_has_no_flag(real_data: Path) -> None:
    ct = real_data / "ct/chest_abdomen_3mm.nii.gz"
    code, out = run(ct, real_data / "ct/chest_abdomen_3mm_totalsegmentator.nii.gz")
    assert code == 0
    assert "23 structures, 14 of them cut" in out
    assert "nothing implausible" in out
