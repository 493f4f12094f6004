"""CTs unlike those of a training: told apart by numbers whose distribution is known here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.inference.conftest import body, lps
from uvlm.data.ct.grid import preprocess_volume
from uvlm.data.ct.io import write_volume
from uvlm.data.ct.volume import Volume
from uvlm.drafts.batch import Options, predict
from uvlm.errors import DataError
from uvlm.inference.measures import Measure, Measures, measure
from uvlm.inference.population import FILE_NAME, Population, read_population
from uvlm.inference.predictor import Predictor
from uvlm.text.draft import Draft


def drawn(rng: np.random.Generator, count: int) -> list[Measures]:
    """CTs of three independent measures, one of them always the same."""
    return [
        {
            "a": Measure(float(rng.normal(100, 10)), "ml", "anatomy"),
            "b": Measure(float(rng.exponential(0.1)), "share", "Hounsfield units"),
            "c": Measure(1.5, "mm", "voxel size"),
        }
        for _ in range(count)
    ]


def test_the_share_withheld_of_like_cts_is_what_was_promised() -> None:
    """Over 200 trainings, as the promise is one of the average."""
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(200):
        known = Population.of(drawn(rng, 200), drawn(rng, 100))
        shares.append(np.mean([bool(known.unlike(found)) for found in drawn(rng, 50)]))
    assert known.withheld_share == pytest.approx(1 - 99 / 101)
    assert np.mean(shares) == pytest.approx(known.withheld_share, abs=0.006)


def test_what_is_unusual_is_named_with_what_is_usual() -> None:
    rng = np.random.default_rng(0)
    known = Population.of(drawn(rng, 200), drawn(rng, 100))
    strange = dict(drawn(rng, 1)[0]) | {
        "a": Measure(300.0, "ml", "anatomy"),
        "c": Measure(3.0, "mm", "voxel size"),
        "d": Measure(3.0, "mm", "unknown"),
    }
    found = known.unlike(strange)
    assert [each.what for each in found] == ["c", "a"]
    assert found[0].text == "c is 3 mm, in training 1.5 to 1.5 mm"
    assert (found[1].kind, found[1].value) == ("anatomy", 300.0)


def test_few_validation_cases_set_the_limit_at_their_largest_excess() -> None:
    rng = np.random.default_rng(0)
    train, val = drawn(rng, 50), drawn(rng, 4)
    known = Population.of(train, val)
    assert not any(known.unlike(found) for found in val)
    assert known.withheld_share == pytest.approx(1 - 4 / 5)


def test_a_population_is_read_back_and_a_damaged_one_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    known = Population.of(drawn(rng, 20), drawn(rng, 10))
    assert read_population(tmp_path) is None
    path = tmp_path / FILE_NAME
    path.write_text(known.to_json(), encoding="utf-8")
    read = read_population(tmp_path)
    assert read is not None
    assert read[0] == known
    document = json.loads(known.to_json())
    for spoilt in ("", "[]", "{", json.dumps(document | {"format_version": 9}),
                   json.dumps(document | {"ranges": {"a": {"low": 1}}})):  # fmt: skip
        path.write_text(spoilt, encoding="utf-8")
        with pytest.raises(DataError, match="not readable as a population") as error:
            read_population(tmp_path)
        assert "\n" not in str(error.value)


@pytest.fixture
def knowing(report_folder: Path) -> Path:
    """A model folder that knows what bodies of `body` are like."""
    predictor = Predictor.load(report_folder)

    def measured(seed: int) -> Measures:
        array, geometry = preprocess_volume(lps(body(seed)), predictor.preprocess)
        return measure(array, geometry, None, ())

    known = Population.of([measured(s) for s in range(30)], [measured(s) for s in range(30, 50)])
    (report_folder / FILE_NAME).write_text(known.to_json(), encoding="utf-8")
    return report_folder


def test_an_unlike_ct_gets_masks_and_the_reason_but_no_report(
    knowing: Path, tmp_path: Path
) -> None:
    wide = lps(body(1))
    affine = wide.affine.copy()
    affine[:, 2] *= 3  # a field of view three times as wide
    paths = [tmp_path / name for name in ("like.nii.gz", "wide.nii.gz")]
    write_volume(paths[0], lps(body(1)))
    write_volume(paths[1], Volume(wide.array, affine))
    told: list[str] = []
    like, unlike = predict(paths, knowing, tmp_path / "out", tell=told.append)
    assert (like.status, unlike.status) == ("drafted", "withheld")
    assert "REPORT WITHHELD" in told[-1]
    draft = Draft.load(unlike.ct.folder / "report.json")
    assert (draft.report, draft.findings, draft.sentences, draft.probabilities) == (
        *(None, None, (), {}),
    )
    assert draft.withheld is not None
    assert "field of view" in draft.withheld
    assert "extent along x is 108 mm, in training 36 to 36 mm" in draft.withheld
    assert (unlike.ct.folder / "segmentation.nii.gz").exists()
    text = (unlike.ct.folder / "report.txt").read_text("utf-8")
    assert f"REPORT WITHHELD: {draft.withheld}" in text
    assert "Findings:" not in text
    assert Draft.load(like.ct.folder / "report.json").unlike_training.checked


def test_it_is_written_and_marked_if_asked_for(knowing: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "short.nii.gz", tmp_path / "out"
    write_volume(path, lps(body(1, shape=(20, 20, 24))))
    (outcome,) = predict([path], knowing, out, Options(unlike_training=True))
    draft = Draft.load(out / "report.json")
    assert (outcome.status, draft.withheld) == ("drafted", None)
    assert draft.report
    assert draft.probabilities
    assert draft.unlike_training.written_anyway
    assert any("UNLIKE THE TRAINING" in note for note in draft.notes)
    assert "UNLIKE THE TRAINING" in (out / "report.txt").read_text("utf-8")


def test_a_model_that_does_not_know_says_that_nobody_looked(
    report_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "ct.nii.gz"
    write_volume(path, lps(body(1)))
    predict([path], report_folder, tmp_path / "out")
    draft = Draft.load(tmp_path / "out" / "report.json")
    assert not draft.unlike_training.checked
    assert any("nobody looked" in note for note in draft.notes)
    assert "nobody looked" in (tmp_path / "out" / "report.txt").read_text("utf-8")


def test_measures_follow_the_anatomy_and_not_the_axes_of_the_file() -> None:
    """A cube of liver at a known place; mirrored, only its place changes."""
    from uvlm.config import PreprocessConfig

    config = PreprocessConfig(
        orientation="LPS", grid=(10, 20, 24), resize="stretch", spacing_mm=None,
        clip_hu=(-1024, 3071), window_hu=(-1000, 1000), normalise="window",
    )  # fmt: skip
    array, geometry = preprocess_volume(lps(body()), config)
    ids = np.zeros(array.shape, np.uint8)
    ids[2:6, 5:15, 0:6] = 1
    array = np.where(ids == 1, 60, array).astype(np.int16)
    found = measure(array, geometry, ids, ("background", "liver"))
    assert found["volume of liver"].value == pytest.approx(4 * 10 * 6 * 5 * 2 * 1.5 / 1000)
    assert found["mean of liver"].value == 60
    assert found["place of liver along x"].value == pytest.approx(3 / 24)
    assert found["extent along z"].value == pytest.approx(50)
    mirrored = measure(array[..., ::-1], geometry, ids[..., ::-1], ("background", "liver"))
    assert mirrored["place of liver along x"].value == pytest.approx(21 / 24)
    same = {n: m for n, m in found.items() if n != "place of liver along x"}
    assert {n: mirrored[n].value for n in same} == pytest.approx(
        {n: m.value for n, m in same.items()}
    )
