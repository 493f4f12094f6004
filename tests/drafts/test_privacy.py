"""Forty identifiers planted in headers, names, tables and zips: none in any output by default.

What `predict` prints, the names of its files and their contents are searched, packed ones unpacked.
"""

from __future__ import annotations

import csv
import gzip
import re
import zipfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner

from benchmarks.good_files import WRITERS
from pipeline.cli import app
from tests.inference.conftest import body, lps
from uvlm.data.ct.io import write_volume
from uvlm.drafts.privacy import line_of
from uvlm.errors import DataError, ReadError

nib: Any = nibabel
WORDS = [f"Zq{i:02d}Doe{chr(97 + i % 26)}{chr(122 - i % 26)}" for i in range(40)]
BIRTH = "19551231"
TAGS = [
    *("PatientName", "PatientID", "OtherPatientIDs", "PatientAddress", "PatientComments"),
    *("PatientTelephoneNumbers", "PatientMotherBirthName", "OtherPatientNames", "EthnicGroup"),
    *("Occupation", "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName"),
    *("RequestingPhysician", "PhysiciansOfRecord", "InstitutionName", "InstitutionAddress"),
    *("InstitutionalDepartmentName", "StationName", "AccessionNumber", "StudyID"),
    *("StudyDescription", "SeriesDescription", "ProtocolName", "ImageComments"),
    *("DeviceSerialNumber", "RequestedProcedureDescription", "AdmissionID"),
]  # fmt: skip


OTHERS = WORDS[len(TAGS) :]  # in names, tables, zips and other headers


def identify(folder: Path) -> None:
    """Put an identifier into every tag of every slice, and into a private one."""
    for path in folder.iterdir():
        dataset: Any = pydicom.dcmread(path)
        for name, text in zip(TAGS, WORDS, strict=False):
            setattr(dataset, name, text)
        dataset.PatientBirthDate = BIRTH
        dataset.add_new((0x0099, 0x0010), "LO", OTHERS[0])
        dataset.add_new((0x0099, 0x1001), "LO", OTHERS[1])
        dataset.save_as(path)


def series(folder: Path) -> Path:
    """A DICOM folder full of identifiers, under a name that is one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = WRITERS["DICOM, jpeg_lossless"](folder.parent, lps(body()))
    identify(made)
    return made.rename(folder)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Good and bad CTs of every kind, in a folder that is called by an identifier."""
    root = tmp_path / OTHERS[2]
    good = series(root / f"{OTHERS[3]}^Jane")
    short, two, spoilt = (series(root / OTHERS[n]) for n in (4, 5, 6))
    slices = sorted(short.iterdir())
    slices[4].unlink()
    for number, path in enumerate(sorted(two.iterdir())):
        dataset: Any = pydicom.dcmread(path)
        if number % 2:
            dataset.PatientID, dataset.SeriesInstanceUID = OTHERS[7], "1.2.3"
        dataset.save_as(path)
    first = sorted(spoilt.iterdir())[0]
    dataset = pydicom.dcmread(first)
    dataset.Modality, dataset.PhotometricInterpretation = "CT", OTHERS[8].upper()[:16]
    dataset.save_as(first)
    image = nib.Nifti1Image(body().T.astype("i2"), np.diag([1.5, 2, 5, 1]))
    image.header["descrip"], image.header["aux_file"] = OTHERS[9].encode(), OTHERS[10].encode()
    nib.save(image, root / f"{OTHERS[11]}.nii.gz")
    mr = nib.Nifti1Image(np.abs(body()).T.astype("i2") % 200, np.diag([1.5, 2, 5, 1]))
    nib.save(mr, root / f"{OTHERS[11]}_mr.nii.gz")
    (root / f"{OTHERS[11]}.nrrd").write_text(f"NRRD0005\n# {OTHERS[9]}\nspace: {OTHERS[10]}\n\n")
    with zipfile.ZipFile(root / "good.zip", "w") as file:
        for path in good.iterdir():
            file.write(path, f"{OTHERS[6]}/{path.name}")
    with zipfile.ZipFile(root / "bad.zip", "w") as file:
        file.writestr(f"../{OTHERS[6]}.dcm", b"x")
    names = [
        *(good.name, short.name, two.name, spoilt.name, f"{OTHERS[11]}.nii.gz"),
        *(f"{OTHERS[11]}_mr.nii.gz", f"{OTHERS[11]}.nrrd", "good.zip", "bad.zip"),
        f"{OTHERS[7]} is missing.nii.gz",
    ]
    path = root / "list.csv"
    with path.open("w", encoding="utf-8", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(["ct", "id", "name"])
        writer.writerows([name, f"{OTHERS[0]} {i}", OTHERS[1]] for i, name in enumerate(names))
    return path


def everything(folder: Path) -> str:
    """Names and contents of all files, unpacked."""
    parts = []
    for path in sorted(folder.rglob("*")):
        parts.append(path.name)
        if path.is_file():
            content = path.read_bytes()
            parts.append(content.decode("latin-1"))
            if path.suffix == ".gz":
                parts.append(gzip.decompress(content).decode("latin-1"))
    return "\n".join(parts)


def found_in(text: str) -> list[str]:
    return [word for word in (*WORDS, BIRTH) if re.search(word, text, re.IGNORECASE)]


@pytest.mark.slow
def test_none_of_forty_identifiers_is_in_any_output(
    table: Path, report_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ["predict", str(table), "--model", str(report_folder), "--out", str(out)]
    ran = CliRunner().invoke(app, command)
    assert isinstance(ran.exception, DataError)  # which `main` prints
    shown = f"{ran.output}\n{ran.exception}\n{ran.exception.details}"
    cases = (out / "cases.csv").read_text(encoding="utf-8").splitlines()
    statuses = [row["status"] for row in csv.DictReader(cases)]
    assert statuses.count("drafted") == 3
    assert statuses.count("refused") == 7
    assert found_in(shown) == []
    assert found_in(everything(out)) == []
    # The search finds what is there: with real names, many are.
    named = CliRunner().invoke(app, [*command[:-1], f"{out}2", "--name-sources"])
    assert len(found_in(f"{named.output}\n{named.exception}{everything(Path(f'{out}2'))}")) > 3


def test_what_a_line_quotes_and_what_a_bug_says_is_hidden(tmp_path: Path) -> None:
    path = tmp_path / "Roe_Jane 7.nii.gz"
    write_volume(path, lps(body()))
    error = ReadError(path, f"is in the space 'Dr Roe' of Jane, not of {path}; the CT's own", "x")
    line = line_of(error, "CT 1", path, names=False)
    assert line == "CT 1: is in the space ... of ..., not of ...; the CT's own; x"
    assert "Dr Roe" in line_of(error, "CT 1", path, names=True)
    assert line_of(KeyError("Roe"), "CT 1", path, names=False).startswith("CT 1: a bug (KeyError")
