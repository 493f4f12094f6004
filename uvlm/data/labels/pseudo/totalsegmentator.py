"""Anatomy, airways and vessels by TotalSegmentator, in a process of its own.

Its model files are pickles, and opening a pickle can run anything; this is the one exception to the
rule that nothing is unpickled here. So it happens in a child process that has no network and no
secrets in its environment, and that returns nothing but a label map, which is read as strictly as
any other file:

    worker --{"ct", "out"}--> child: TotalSegmentator's Python API, models kept loaded
           <--{"done"} | {"refused"} | {"setup"}--

The child ends with its worker, even if that is killed.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any, Final

from uvlm.data.cases import Case
from uvlm.data.ct.grid_rules import is_on_grid
from uvlm.data.ct.io import read_label_map, read_volume, write_volume
from uvlm.data.ct.volume import LabelMap, ReadError, Volume
from uvlm.data.labels.pseudo.backend import Backend, Provenance
from uvlm.data.labels.pseudo.totalsegmentator_weights import Task, check_weights, weights_folder
from uvlm.data.sets.raw import at_hand
from uvlm.environment import TOTALSEG_WEIGHTS, inherited
from uvlm.errors import SetupError, install

CHILD: Final = "uvlm.data.labels.pseudo.totalsegmentator_child"
_LARGEST_ID: Final = {"total": 117, "lung_vessels": 4}
_PATIENCE_S: Final = 1.0
_NO_NETWORK: Final = ("unshare", "--map-root-user", "--net", "--")
_KEPT_VARIABLES: Final = (
    *("PATH", "PYTHONPATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "UVLM_DEVICE"),
    *("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
)


@dataclass(frozen=True)
class TotalSegmentator(Backend):
    """One task; `fast` is the model at 3 mm."""

    task: Task
    fast: bool = False

    def provenance(self) -> Provenance:
        """Say which package and models are used; both must be installed."""
        digest = check_weights(self.task, self.fast)
        try:
            release = f"{version('totalsegmentator')} (nnunetv2 {version('nnunetv2')})"
        except PackageNotFoundError as error:
            raise SetupError(error.name, "is not installed", install("pseudo")) from None
        options = {"task": self.task, "fast": self.fast}
        return Provenance("totalsegmentator", release, "Apache-2.0", digest, options)

    def annotate(self, case: Case, root: Path) -> LabelMap:
        """Label one CT in the child of this process."""
        with at_hand(case, root) as ct:
            volume = read_volume(ct)
        return _child(self.task, self.fast).label(volume, case.case_id)


class Child:
    """The process that runs the package, for one task."""

    def __init__(self, task: Task, fast: bool = False) -> None:
        self._largest_id = _LARGEST_ID[task]
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        command = [sys.executable, "-m", CHILD, task, *(["--fast"] if fast else [])]
        self._process = subprocess.Popen(
            [*no_network(), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=child_environment(),
            start_new_session=True,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout
        self._folder = Path(self._answer()["ready"])

    def label(self, volume: Volume, case_id: str) -> LabelMap:
        """Label one CT, on its own grid.

        Raises:
            ReadError: the package fails on this CT.
            SetupError: it does not run, or the process has ended.
        """
        ct, out = self._folder / "ct.nii.gz", self._folder / "labels.nii.gz"
        write_volume(ct, volume)
        try:
            answer = self._answer({"ct": str(ct), "out": str(out)})
            if "refused" in answer:
                fact = f"TotalSegmentator fails on it ({answer['refused']})"
                raise ReadError(case_id, fact, "leave it out", reason="backend_failed")
            labels = read_label_map(out)
        finally:
            ct.unlink(missing_ok=True)
            out.unlink(missing_ok=True)
        largest = int(labels.array.max(initial=0))
        if not is_on_grid(labels, volume.array.shape, volume.affine):
            fact = "TotalSegmentator's labels do not lie on the grid of the CT"
            raise ReadError(case_id, fact, "leave it out", reason="grid_mismatch")
        if largest > self._largest_id:
            fact = f"TotalSegmentator returned the id {largest}, more than {self._largest_id}"
            raise ReadError(case_id, fact, "leave it out", reason="class_ids")
        return LabelMap(labels.array, volume.affine)

    def close(self) -> None:
        """End the process."""
        self._requests.close()
        self._process.wait()  # the end of its input ends it
        self._answers.close()
        self._log.close()

    def _answer(self, request: dict[str, str] | None = None) -> dict[str, Any]:
        try:
            if request is not None:
                self._requests.write(json.dumps(request) + "\n")
                self._requests.flush()
            while not select.select([self._answers], [], [], _PATIENCE_S)[0]:
                # The end of the pipe is not enough: what the child has forked may keep it open.
                if self._process.poll() is not None:
                    raise BrokenPipeError
            answer: dict[str, Any] = json.loads(self._answers.readline())
        except (BrokenPipeError, ValueError):
            code = self._process.wait()
            killed = " (killed, perhaps for lack of memory)" if code < 0 else ""
            fact = f"its process has ended with {code}{killed}: {self._last_line()}"
            raise SetupError("totalsegmentator", fact, "run the same command again") from None
        if "setup" in answer:
            raise SetupError(answer["subject"], answer["setup"], answer["remedy"])
        return answer

    def _last_line(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"


@cache
def _child(task: Task, fast: bool) -> Child:
    """Start the child once per process."""
    return Child(task, fast)


def child_environment() -> dict[str, str]:
    """Keep what the package needs, but no token or password."""
    kept = {name: value for name, value in inherited().items() if name in _KEPT_VARIABLES}
    one_ct_at_a_time = {"nnUNet_def_n_proc": "1"}
    return kept | one_ct_at_a_time | {TOTALSEG_WEIGHTS.name: str(weights_folder().resolve())}


@cache
def no_network() -> tuple[str, ...]:
    """Return the prefix of the child's command that removes its network, where there is one.

    It works on Linux unless the administrator forbids it; the child refuses to connect anyway.
    """
    try:
        tried = subprocess.run([*_NO_NETWORK, "true"], capture_output=True, check=False)
    except OSError:
        return ()
    return _NO_NETWORK if tried.returncode == 0 else ()
