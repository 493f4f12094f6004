"""Whatever path a command is given, it ends well or says in one line what is wrong with it."""

from __future__ import annotations

import io
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pytest

from pipeline import cli
from uvlm.text.abnormalities import ABNORMALITIES

TABLE = "id,report\na,No nodule.\nb,Cardiomegaly is present.\n"
BAD = {
    "missing": "no/where.csv",
    "a folder": "folder",
    "below a file": "file/x.csv",
    "too long": f"{'a' * 300}.csv",
    "a path too long": "/".join(["d" * 200] * 25),
    "a loop": "loop",
    "a broken link": "broken",
    "not UTF-8": os.fsdecode(b"m\xfcller.csv"),
    "not UTF-8, and there": os.fsdecode(b"there-\xfc.csv"),
    "empty": "",
    "no place to write": "/proc/nowhere/x.csv",
    "no permission": "/sys/x.csv",
    "below a device": "/dev/null/x",
    "two lines": "a\nb.csv",
}
SCORE = ("score", "--references", "labelled.csv", "--predictions", "table.csv",
         "--text-column", "report", "--bootstrap-samples", "0")  # fmt: skip
# The command line of every place for a path, which is written {}.
PLACES = {
    "check-ct": ("check-ct", "{}"),
    "check-ct --model": ("check-ct", "ct.nii.gz", "--model", "{}"),
    "check-ct --picture": ("check-ct", "ct.nii.gz", "--picture", "{}"),
    "check-labels CT": ("check-labels", "{}", "labels.nii.gz"),
    "check-labels LABELS": ("check-labels", "ct.nii.gz", "{}"),
    "check-labels --page": ("check-labels", "ct.nii.gz", "labels.nii.gz", "--page", "{}"),
    "predict": ("predict", "{}", "--model", "folder", "--out", "out"),
    "predict --model": ("predict", "ct.nii.gz", "--model", "{}", "--out", "out"),
    "predict --out": ("predict", "ct.nii.gz", "--model", "folder", "--out", "{}"),
    "overfit CT": ("overfit", "{}", "labels.nii.gz"),
    "overfit LABELS": ("overfit", "ct.nii.gz", "{}"),
    "label": ("label", "{}", "--text-column", "report", "--out", "out.csv"),
    "label --out": ("label", "table.csv", "--text-column", "report", "--out", "{}"),
    "import-radbert": ("import-radbert", "{}", "--base", "folder", "--out", "out"),
    "import-radbert --base": ("import-radbert", "file", "--base", "{}", "--out", "out"),
    "import-atm22": ("import-atm22", "{}", "--out", "out.safetensors"),
    "import-atm22 --out": ("import-atm22", "file", "--out", "{}"),
    "import-nnunet": ("import-nnunet", "{}", "--out", "out"),
    "import-nnunet --out": ("import-nnunet", "file", "--out", "{}"),
    "score --references": ("score", "--references", "{}", *SCORE[3:]),
    "score --predictions": (*SCORE[:3], "--predictions", "{}", *SCORE[5:]),
    "score --labels": (*SCORE, "--labels", "{}"),
    "score --thresholds": (*SCORE, "--thresholds", "{}"),
    "score --training": (*SCORE, "--training", "{}"),
    "score --compare": (*SCORE, "--compare", "{}"),
    "evaluate --model": ("evaluate", "--model", "{}", "--data", "phantom"),
    "evaluate --data": ("evaluate", "--model", "folder", "--data", "{}"),
    "evaluate --out": ("evaluate", "--model", "folder", "--data", "phantom", "--out", "{}"),
    "score --json": (*SCORE, "--json", "{}"),
    "use": ("use", "{}"),
    "info --profile": ("info", "--profile", "{}"),
}


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the `uvlm` command in a folder of small inputs, on streams that are strict UTF-8."""
    monkeypatch.chdir(tmp_path)
    for name in ("table.csv", os.fsdecode(b"there-\xfc.csv"), "a\nb.csv"):
        Path(name).write_text(TABLE)
    flags = ",".join("0" * len(ABNORMALITIES))
    rows = [f"{row},{flags}" for row in TABLE.splitlines()[1:]]
    Path("labelled.csv").write_text("\n".join([f"id,report,{','.join(ABNORMALITIES)}", *rows, ""]))
    Path("file").write_text("x")
    Path("folder").mkdir()
    Path("loop").symlink_to("loop")
    Path("broken").symlink_to("gone")
    voxels = np.linspace(-1000, 400, 20**3).reshape(20, 20, 20).astype(np.int16)
    image: Any = nib.Nifti1Image  # which has no types
    nib.save(image(voxels, np.eye(4)), "ct.nii.gz")
    nib.save(image((voxels > 0).astype(np.uint8), np.eye(4)), "labels.nii.gz")

    def run(*arguments: str) -> Ended:
        out, err = (
            io.TextIOWrapper(io.BytesIO(), "utf-8", errors)
            for errors in ("strict", "backslashreplace")
        )
        with monkeypatch.context() as patch:
            patch.setattr("sys.argv", ["uvlm", *arguments])
            patch.setattr("sys.stdout", out)
            patch.setattr("sys.stderr", err)
            with pytest.raises(SystemExit) as exit_:
                cli.main()
        for stream in (out, err):
            stream.seek(0)
        return Ended(int(str(exit_.value.code)), out.read(), err.read())

    return run


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_a_bad_path_is_no_bug_of_any_command(place: str, run: Run) -> None:
    for kind, path in BAD.items():
        ended = run(*(word.replace("{}", path) for word in PLACES[place]))
        assert ended.code in (0, 2, 3, 4), (kind, ended.err)
        assert "Traceback" not in ended.err, kind
        if ended.code and place != "check-ct":  # which tells of each CT on stdout
            # One line, but for the usage that typer writes, and a name of two lines.
            lines = ended.err.replace(path, "PATH").splitlines() if path else ended.err.splitlines()
            assert len(lines) == 1 or lines[0].startswith("Usage:"), (kind, ended.err)


@pytest.mark.slow
def test_a_name_that_is_not_utf_8_is_written_to_and_shown(run: Run) -> None:
    ended = run("label", "table.csv", "--text-column", "report", "--out", BAD["not UTF-8"])
    assert ended.code == 0
    assert ended.out.endswith("written to m\\udcfcller.csv\n")
    assert Path(BAD["not UTF-8"]).read_text().count("\n") == 3


def test_the_hidden_name_of_an_unfinished_file_is_never_shown(run: Run) -> None:
    ended = run(*SCORE, "--json", "folder")
    assert ended.code == 3
    assert ended.err == "folder: is a directory; name a file\n"


def test_a_full_disk_is_the_computers_fault_and_names_the_file(run: Run, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, limits[1]))
    try:
        ended = run(*SCORE, "--json", "out.json")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert ended.code == 4
    assert ended.err == "out.json: file too large; write to another disk\n"
    assert not [p for p in tmp_path.iterdir() if p.name.startswith((".", "out"))]


def test_ctrl_c_ends_a_command_as_it_ends_a_stage(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.profiles.use_profile", interrupted)
    ended = run("use", "phantom")
    assert (ended.code, ended.err) == (5, "use: interrupted; run the same command again\n")


def test_our_own_mistakes_stay_a_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing_from_the_installation(*_: object) -> None:
        Path(cli.__file__).with_name("no_such.json").read_text()

    monkeypatch.setattr("pipeline.profiles.use_profile", missing_from_the_installation)
    ended = run("use", "phantom")
    assert ended.code == 70
    assert "Traceback" in ended.err
    assert ended.err.endswith("this is a bug; please report it with the lines above\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "line"),
    [
        (("label", "secret.csv", "--text-column", "report", "--out", "out.csv"), "secret.csv: "),
        (("label", "table.csv", "--text-column", "report", "--out", "folder/x.csv"), "--out: "),
        ((*SCORE, "--json", "folder/x.json"), "folder/x.json: "),
    ],
    ids=["a table", "a folder to write in", "a folder for JSON"],
)
def test_a_missing_permission_is_one_line(
    place: tuple[str, ...], line: str, run: Run, root: Path
) -> None:
    Path("secret.csv").write_text(TABLE)
    Path("secret.csv").chmod(0)
    Path("folder").chmod(0o555)
    rights = "-dac_override,-dac_read_search"  # what lets root read and write everything
    as_a_user = ["setpriv", "--bounding-set", rights, "--inh-caps", rights]
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root may do everything, and there is no setpriv to give that up")
    ended = subprocess.run(
        [*as_a_user * (os.geteuid() == 0), sys.executable, "-m", "pipeline.cli", *place],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode in (2, 3)
    assert ended.stderr.startswith(line)
    assert "ermission denied" in ended.stderr
    assert ended.stderr.count("\n") == 1
