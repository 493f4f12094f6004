"""Damage thousands of CTs and count who notices: this reader, SimpleITK, nibabel.

    python -m benchmarks.reader_faults                 all of it, to reports/reader_faults.md
    python -m benchmarks.reader_faults --per-cell 2    a sample of every kind of damage

Every damaged file is alone in a folder. Real CTs are included if UVLM_REAL_DATA is set.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import zlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.fault_plan import Base, Cell, plan
from benchmarks.faults_page import write_page
from benchmarks.good_files import WRITERS, draw_ct
from benchmarks.readers import READERS, Outcome, Reader, can_read
from benchmarks.wrong_scalings import WRONG
from uvlm.data.ct.hounsfield import check_hounsfield
from uvlm.data.ct.io import read_volume
from uvlm.data.ct.volume import ReadError
from uvlm.files import write_bytes_atomic

NUM_GOOD: Final = 200
Counts = dict[str, Counter[str]]  # outcomes by reader


@dataclass
class Tally:
    """Everything that the campaign counts."""

    detectable: dict[str, Counts] = field(default_factory=dict)
    silent: dict[str, Counts] = field(default_factory=dict)
    good: int = 0
    false_alarms: list[str] = field(default_factory=list)
    scalings_refused: dict[str, int] = field(default_factory=dict)
    scalings_tried: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, cell: Cell, reader: str, outcome: Outcome) -> None:
        """Count one outcome."""
        table = self.detectable if cell.detectable else self.silent
        table.setdefault(cell.kind, defaultdict(Counter))[reader][outcome] += 1

    def total(self, reader: str, outcome: str) -> int:
        """Sum an outcome over the damage that leaves a trace."""
        return sum(counts[reader][outcome] for counts in self.detectable.values())

    @property
    def num_damaged(self) -> int:
        """Count the files tried whose damage leaves a trace."""
        return sum(sum(counts["uvlm"].values()) for counts in self.detectable.values())


def run(per_cell: int | None = None, num_good: int = NUM_GOOD) -> Tally:
    """Run the campaign; `per_cell` limits every kind of damage to a number of files."""
    tally = Tally()
    readers = [Reader(name) for name in READERS]
    try:
        for base in plan():
            with tempfile.TemporaryDirectory(prefix="uvlm-faults-") as folder:
                _damage(base, Path(folder), readers, tally, per_cell)
    finally:
        for reader in readers:
            reader.close()
    _read_good_files(tally, num_good)
    _try_scalings(tally)
    return tally


def _damage(
    base: Base, folder: Path, readers: list[Reader], tally: Tally, per_cell: int | None
) -> None:
    """Damage one base in every way of its plan."""
    (folder / "good").mkdir()
    original = base.make(folder / "good")
    truth = read_volume(original)
    np.savez(folder / "truth.npz", array=truth.array, affine=truth.affine)
    able = [reader for reader in readers if can_read(reader.name, original)]
    for reader in able:
        reader.compare_with(folder / "truth.npz")
        reader.ask(original)
        if reader.answer() != "unchanged":
            tally.problems.append(f"{reader.name} does not read {base.name} as it was written")
    for number, cell in enumerate(base.cells):
        for repeat in range(min(cell.count, per_cell or cell.count)):
            seed = zlib.crc32(f"{base.name}/{cell.kind}/{number}".encode())
            target = folder / "case" / original.name
            target.parent.mkdir()
            cell.apply(original, target, np.random.default_rng([seed, repeat]))
            for reader in able:
                reader.ask(target)
            for reader in able:
                outcome = reader.answer()
                tally.add(cell, reader.name, outcome)
                if reader.name == "uvlm" and cell.detectable and outcome in ("silent", "crash"):
                    tally.problems.append(f"{base.name}, {cell.kind}, {number}/{repeat}: {outcome}")
            shutil.rmtree(target.parent)
    sys.stderr.write(f"{base.name}: {tally.num_damaged} files so far\n")


def _read_good_files(tally: Tally, count: int) -> None:
    """Read phantoms of every format, axis order, type and padding."""
    writers = list(WRITERS.items())
    for seed in range(count):
        name, write = writers[seed % len(writers)]
        volume = draw_ct(1000 + seed)
        with tempfile.TemporaryDirectory(prefix="uvlm-good-") as folder:
            path = write(Path(folder), volume)
            tally.good += 1
            try:
                read_volume(path)
            except ReadError as error:
                tally.false_alarms.append(f"{name}, seed {1000 + seed}: {error.fact}")


def _try_scalings(tally: Tally) -> None:
    """Scale phantoms wrongly in every known way."""
    for seed in range(10):
        hu = np.maximum(draw_ct(2000 + 5 * seed).array.astype(np.int32), -1024)
        tally.scalings_tried += 1
        for name, wrong in WRONG.items():
            try:
                check_hounsfield(wrong(hu), Path("ct.nii.gz"))
            except ReadError:
                tally.scalings_refused[name] = tally.scalings_refused.get(name, 0) + 1


def main() -> int:
    """Write the page; 1 if this reader was silent, crashed or raised a false alarm."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--per-cell", type=int, help="at most so many files of each kind")
    parser.add_argument("--good", type=int, default=NUM_GOOD, help="how many good files")
    parser.add_argument("--out", type=Path, default=Path("reports/reader_faults.md"))
    options = parser.parse_args()
    tally = run(options.per_cell, options.good)
    write_bytes_atomic(options.out, write_page(tally).encode(), durable=False)
    for problem in [*tally.problems, *tally.false_alarms]:
        sys.stderr.write(f"{problem}\n")
    silent, crashes = tally.total("uvlm", "silent"), tally.total("uvlm", "crash")
    sys.stderr.write(
        f"{tally.num_damaged} damaged files: {silent} silent, {crashes} crashes; "
        f"{len(tally.false_alarms)} false alarms on {tally.good} good files; see {options.out}\n"
    )
    return int(bool(tally.problems or tally.false_alarms))


if __name__ == "__main__":
    sys.exit(main())
