"""Evidence for cues: of a head that has not met the case, hidden at random, read from no test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from tests.train.chain import Chain, changed
from uvlm.config import Params
from uvlm.data.cases import Case, read_index, write_index
from uvlm.data.examples import read_examples
from uvlm.errors import ConfigError, DataError
from uvlm.inference.encode import encode_volumes
from uvlm.inference.generate import generate_reports
from uvlm.inference.predictor import Predictor
from uvlm.inference.report_writer import ReportWriter
from uvlm.model.load import load_classifier, load_report_model
from uvlm.text.abnormalities import ABNORMALITIES
from uvlm.text.attributes import VALUE_NAMES, Attributes
from uvlm.text.predictions import load_predictions
from uvlm.text.report import parse_report
from uvlm.text.tokenizer import Tokenizer
from uvlm.train.heads.attributes import attribute_shares, attribute_table
from uvlm.train.report_batches import CuedInputs
from uvlm.train.report_data import Readers, ReportPaths, TunedClassifier, read_report_data

FIRST = ABNORMALITIES[0]
CHANGES = {"steps": 2, "head_warmup_steps": 6, "encoder_lr_scale": 0.0, "evidence_folds": 4}


def read(text: str) -> Mapping[str, Attributes]:
    """Read the side of the ball."""
    side = next((side for side in ("right", "left") if f"on the {side}" in text), None)
    return {FIRST: Attributes(side=frozenset([side]))} if side else {}


def one_abnormality(index: Path) -> None:
    """Let every case have the same abnormality, so that only its side differs."""
    flags = (1, *[0] * 17)
    write_index(index, (replace(case, abnormalities=flags) for case in read_index(index)))


@pytest.fixture
def cued(chain: Chain) -> Chain:
    params = changed(chain.params, "injection", cues="both")
    params = changed(params, "classifier", attributes=True)
    params = changed(params, "train_cls", **CHANGES)
    chain.params = changed(params, "train_report", cue_dropout=0.2, cue_case_dropout=0.2)
    chain.read = read
    one_abnormality(chain.project.index)
    return chain


def stages(chain: Chain) -> Chain:
    chain.seg(steps=0)
    chain.cls()
    chain.encode()
    chain.report()
    return chain


def altered(index: Path, split: str, only: str = "") -> None:
    """Change flags and reports of a split, or of one of its cases."""

    def other(case: Case) -> Case:
        if case.split != split or only not in ("", case.case_id):
            return case
        flags = tuple(1 - flag for flag in case.abnormalities)
        return replace(case, abnormalities=flags, findings="Nothing.", impression="")

    write_index(index, [other(case) for case in read_index(index)])


@pytest.mark.slow
def test_evidence_of_a_case_comes_from_a_head_that_has_not_met_it(cued: Chain) -> None:
    cued.seg(steps=0)
    cued.cls()
    before = cued.tensors("cls/evidence")
    altered(cued.project.index, "train", only="case_03")
    cued.cls()
    after = cued.tensors("cls/evidence")
    assert after.keys() == before.keys() == {f"case_{n:02d}" for n in range(8)}
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert "case_03" in same
    assert len(same) <= 2  # four heads share eight patients, and three of them met the case
    assert before["case_03"].shape == (18, 1 + len(VALUE_NAMES))


@pytest.mark.slow
def test_evidence_changes_no_other_weight(cued: Chain) -> None:
    cued.seg(steps=0)
    found = []
    for folds in (0, 2):
        cued.cls(evidence_folds=folds)
        found.append((cued.bytes_of("cls/encoder"), cued.bytes_of("cls/classifier")))
    assert found[0] == found[1]


@pytest.mark.slow
def test_stage_3_reads_nothing_of_a_test_case(cued: Chain) -> None:
    stages(cued)
    before = [cued.bytes_of(f"report/{part}") for part in ("classifier", "decoder")]
    altered(cued.project.index, "test")
    stages(cued)
    assert [cued.bytes_of(f"report/{part}") for part in ("classifier", "decoder")] == before


@pytest.mark.slow
def test_what_evidence_was_fitted_on_is_recorded_for_the_audit(cued: Chain) -> None:
    cued.seg(steps=0)
    cued.cls()
    text = (cued.models / "cls" / "fitted_on.json").read_text(encoding="utf-8")
    assert '"evidence"' in text
    assert "case_12" not in text  # of the test split
    assert "case_13" not in text


def test_cues_need_the_evidence_of_every_training_case(cued: Chain) -> None:
    cued.seg(steps=0)
    cued.cls(evidence_folds=0)
    cued.encode()
    with pytest.raises(DataError, match="holds no evidence of training cases"):
        cued.report()


@pytest.mark.slow
def test_a_report_model_with_cues_writes_with_and_without_them(cued: Chain, params: Params) -> None:
    stages(cued)
    model = load_report_model(cued.models / "report")
    assert model.config.attributes == VALUE_NAMES
    writer = ReportWriter.of(model)
    example = read_examples(cued.project.index, cued.project.preprocess, params.preprocess)[-1]
    x = torch.from_numpy(example.voxels(params.preprocess))[None, None]
    visual = writer.visual(encode_volumes(model.encoder, x, model.config.injection))
    seen = writer.seen(visual, visual)
    own = load_classifier(cued.models / "report")
    with torch.no_grad():
        torch.testing.assert_close(seen[-1], own.classifier.evidence(own.encoder(x)[-1]))
    assert len(writer.probabilities(visual)[0]) == 18
    unknown = [*visual, torch.full_like(seen[-1], torch.nan)]
    assert all(len(writer.write(each)) == 1 for each in (seen, unknown))


@pytest.mark.slow
@pytest.mark.parametrize("pooled", ["none", "both"])
def test_generate_and_predict_give_the_decoder_the_same_cues(
    pooled: str, cued: Chain, tmp_path: Path
) -> None:
    cued.params = changed(cued.params, "injection", pooled=pooled, cue_tokens="by_kind")
    stages(cued)
    project, predictions = cued.project, tmp_path / "predictions.jsonl"
    paths: dict[str, Path] = {
        "index": project.index, "encodings": cued.encodings, "preprocess": project.preprocess,
        "label_maps": project.label_maps, "model": cued.models / "report",
        "seg": cued.models / "seg", "predictions": predictions, "masks": tmp_path / "m.jsonl",
    }  # fmt: skip
    generate_reports(cued.params, **cast(Any, paths))
    written = {p.case_id: p for p in load_predictions(predictions)}
    predictor = Predictor.load(cued.models / "report")
    examples = read_examples(project.index, project.preprocess, cued.params.preprocess, "test")
    assert sorted(written) == [example.case_id for example in examples]
    for example in examples:
        report, probabilities, _ = predictor._describe(example.voxels(cued.params.preprocess))
        generated = written[example.case_id]
        assert probabilities == pytest.approx(generated.probabilities, abs=1e-3)
        assert parse_report(report.text) == parse_report(generated.report)


class Numbers:
    """Inputs that are their own case numbers."""

    def __call__(self, chosen: Sequence[int], rng: np.random.Generator | None) -> Any:
        return [torch.tensor(chosen)]

    def finish(self, x: Any) -> Any:
        return x


def test_single_cues_and_all_cues_of_a_case_are_hidden_as_often_as_asked() -> None:
    evidence = torch.randn(5, 18, 9)
    inputs = CuedInputs(Numbers(), evidence, dropout=0.2, case_dropout=0.3)
    x = inputs.finish(inputs([0, 1, 2, 3, 4] * 800, np.random.default_rng(0)))
    hidden = x[-1].isnan()
    assert torch.equal(hidden.all(dim=-1), hidden.any(dim=-1))  # a cue is hidden whole
    whole = hidden.all(dim=-1).all(dim=-1).float().mean()
    single = hidden[~hidden.all(dim=-1).all(dim=-1)].float().mean()
    assert whole == pytest.approx(0.3, abs=0.03)
    assert single == pytest.approx(0.2, abs=0.01)
    rest = ~hidden
    assert torch.equal(x[-1][rest], evidence[x[0]][rest])


def test_nothing_is_hidden_where_nothing_is_drawn() -> None:
    evidence = torch.randn(5, 18, 9)
    inputs = CuedInputs(Numbers(), evidence, dropout=1.0, case_dropout=1.0)
    assert torch.equal(inputs.finish(inputs([3, 1], None))[-1], evidence[[3, 1]])


def test_cues_tell_the_truth_as_often_as_asked_and_to_a_training_alone() -> None:
    evidence = torch.randn(5, 18, 9)
    told = evidence + 100
    inputs = CuedInputs(Numbers(), evidence, told=told, truth=0.3)
    chosen = [0, 1, 2, 3, 4] * 800
    x = inputs.finish(inputs(chosen, np.random.default_rng(0)))[-1]
    is_told = x == told[chosen]
    assert torch.equal(is_told.all(dim=-1), is_told.any(dim=-1))  # a cue is told whole
    assert float(is_told.float().mean()) == pytest.approx(0.3, abs=0.01)
    assert torch.equal(x[~is_told], evidence[chosen][~is_told])
    assert torch.equal(inputs.finish(inputs([3, 1], None))[-1], evidence[[3, 1]])


@pytest.mark.slow
def test_true_cues_are_on_the_side_that_label_and_report_say(cued: Chain) -> None:
    stages(cued)
    params = changed(cued.params, "train_report", cue_truth=1.0, cue_dropout=0.0)
    paths = ReportPaths(
        cued.project.index,
        cued.encodings,
        cued.project.tokenizer,
        cued.models / "seg",
        cued.models / "cls",
    )
    model, tokenizer = load_classifier(paths.cls), Tokenizer.load(paths.tokenizer)
    thresholds = torch.linspace(0.1, 0.9, 18)
    tuned = TunedClassifier(model.classifier, thresholds)
    sha256 = model.config.weights["encoder"]
    data = read_report_data(
        params, paths, tokenizer, sha256, tuned=tuned, readers=Readers(attributes=read)
    )
    inputs = data.train.inputs
    assert isinstance(inputs, CuedInputs)
    assert inputs.told is not None
    claimed = torch.sigmoid(inputs.told[..., 0]) > thresholds
    assert torch.equal(claimed, torch.tensor([c.abnormalities for c in data.train.cases]) > 0)
    said = torch.from_numpy(attribute_table(data.train.cases, read, ABNORMALITIES))
    assert (said >= 0).any()
    values = inputs.told[..., 1:]
    assert torch.equal(values[said >= 0] > 0, said[said >= 0] > 0)
    assert torch.equal(values[said < 0], inputs.evidence[..., 1:][said < 0])
    assert isinstance(data.val.inputs, CuedInputs)
    assert data.val.inputs.told is None  # what is validated is what will be written
    with pytest.raises(ConfigError, match="nothing reads attributes"):
        read_report_data(params, paths, tokenizer, sha256, tuned=tuned)


def test_labels_of_attributes_are_what_reports_say_of_what_is_there(cued: Chain) -> None:
    cases = [case for case in read_index(cued.project.index) if case.split == "val"]
    absent = replace(cases[0], abnormalities=(0,) * 18)
    table = attribute_table([*cases[:2], absent], read, ABNORMALITIES)
    sides = ["right" if "right" in case.findings else "left" for case in cases[:2]]
    assert table[:2, 0, :2].tolist() == [[float(s == "right"), float(s == "left")] for s in sides]
    assert (table[:, 0, 2:] == -1).all()  # neither lobe nor size is said
    assert (table[:, 1:] == -1).all()
    assert (table[2] == -1).all()


def test_shares_count_what_is_said_and_nothing_else() -> None:
    truth = np.full((2, 2, 8), -1.0)
    truth[0, 0, :2] = [1, 1]  # both sides
    truth[1, 0, :2] = [0, 1]
    truth[1, 1, 2:5] = [0, 0, 1]
    p = np.full((2, 2, 8), 0.1)
    p[0, 0, :2] = [0.6, 0.9]
    p[1, 0, :2] = [0.3, 0.2]  # wrong: neither is likely, and right is likelier
    p[1, 1, 2:5] = [0.1, 0.3, 0.4]
    assert attribute_shares(p, truth) == {"val_side": 0.5, "val_lobe": 1.0}


@pytest.mark.slow
def test_evidence_of_a_side_is_read_from_the_ct(cued: Chain, params: Params) -> None:
    cued.seg(steps=0)
    cued.cls()
    model = load_classifier(cued.models / "cls")
    right, left = (1 + VALUE_NAMES.index(f"side {side}") for side in ("right", "left"))
    for example in read_examples(cued.project.index, cued.project.preprocess, params.preprocess):
        x = torch.from_numpy(example.voxels(params.preprocess))[None, None]
        with torch.no_grad():
            evidence = model.classifier.evidence(model.encoder(x)[-1])[0, 0]
        is_right = "right" in example.case.findings
        assert (evidence[right] > evidence[left]) == is_right, example.case_id
