"""The library by itself: three tiny trainings and a report, where neither DVC nor MLflow exists.

python library_alone.py PARAMS_YAML     in an empty folder, which gets data/
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

ABSENT = ("dvc", "mlflow", "hydra")
TINY: dict[str, dict[str, Any]] = {
    "index": {"val_fraction": 0.3, "max_quarantined_share": 0.5},
    "preprocess": {"grid": [16, 24, 24]},
    "tokenizer": {"vocabulary_size": 400},
    "encoder": {"channels": [4, 4, 8, 8, 8, 8]},
    "decoder": {"layers": 8, "width": 16, "heads": 2, "ffn": 32, "max_report_tokens": 64},
    "train_seg": {"patch": [16, 16, 16]},
    "train_cls": {"head_warmup_steps": 2, "head_warmup_batch_size": 2},
    "train_report": {},
}
PHANTOM = {"train_patients": 10, "test_patients": 5, "shape": [20, 28, 28], "defects": False}
SHORT = {"steps": 2, "batch_size": 2, "log_every": 1, "val_every": 2, "val_cases": 2}


def main(params_yaml: Path) -> None:
    """Make phantoms, train on them, and write a report of one."""
    from uvlm.config import parse_params

    params = parse_params(_tiny(params_yaml), "library_alone")
    paths = _data(params)
    _trainings(params, paths)
    _predict(paths)


def _tiny(params_yaml: Path) -> dict[str, Any]:
    """Read parameters and make everything small."""
    from ruamel.yaml import YAML

    document: dict[str, Any] = YAML(typ="safe").load(params_yaml.read_text(encoding="utf-8"))
    document["download"]["phantom"] |= PHANTOM
    for section, values in TINY.items():
        document[section] |= values
        if section.startswith("train_"):
            document[section] |= SHORT
            document[section]["optim"]["warmup_steps"] = 1
    return document


def _data(params: Any) -> dict[str, Path]:
    """Write phantoms, index, volumes, label maps and a tokenizer; return where they are."""
    from uvlm.config import LABEL_KINDS
    from uvlm.data.cases import read_index
    from uvlm.data.index import build
    from uvlm.data.labels.label_maps import LabelMaps, join
    from uvlm.data.labels.pseudo.stage import PseudoLabels
    from uvlm.data.leaks.fitted_on import write_fits
    from uvlm.data.preprocess import Volumes
    from uvlm.data.sets.catalogue import choose_set
    from uvlm.store.every_case import run
    from uvlm.text import tokenizer

    folder = Path("data/manifests")
    names = ("download", "index", "preprocess", "label_maps", "encode", *LABEL_KINDS)
    paths = {name: folder / f"{name}.jsonl" for name in names}
    choose_set(params).for_label_maps(params.label_maps.cases).fetch(
        paths["download"], lambda _: []
    )
    build(params, paths["download"], paths["index"], folder / "refused.jsonl")
    cases = read_index(paths["index"])
    run(Volumes.of(params), cases, paths["preprocess"], 0.0)
    for kind in LABEL_KINDS:
        run(PseudoLabels.of(params, kind=kind), cases, paths[kind], 0.0)
    maps, parts = LabelMaps.of(params), {kind: paths[kind] for kind in LABEL_KINDS}
    jobs, _ = join(maps.config, paths["index"], paths["preprocess"], parts)
    run(maps, jobs, paths["label_maps"], 0.0)
    texts = {case.scan_id: case.report.text for case in cases if case.split == "train"}
    models = {name: Path("data/models") / name for name in ("tokenizer", "seg", "cls", "report")}
    tokenizer.run(params.tokenizer, texts.values(), models["tokenizer"])
    write_fits(models["tokenizer"], {"tokenizer": {"train": texts}})
    return paths | models


def _trainings(params: Any, paths: dict[str, Path]) -> None:
    """Train the three stages one after the other."""
    from uvlm.evaluation.labeller import get_attribute_reader, get_labeller
    from uvlm.inference.encode import encode_cases
    from uvlm.text.abnormalities import abnormality_names
    from uvlm.text.deciding import DecidingWords
    from uvlm.tracking import NullTracker, Training
    from uvlm.train.cls import train_cls
    from uvlm.train.report import train_report
    from uvlm.train.report_data import Readers, ReportPaths
    from uvlm.train.seg import train_seg

    data: dict[str, Any] = {name: paths[name] for name in ("index", "preprocess")}
    training = Training("alone", {}, NullTracker(), None)
    maps, encodings = paths["label_maps"], paths["encode"]
    train_seg(params, **data, label_maps=maps, out=paths["seg"], training=training)
    names, labeller = abnormality_names(params), params.evaluate.labeller
    rules, read = (get_attribute_reader(kind, names)[1] for kind in ("rules", labeller))
    cls = paths["cls"]
    train_cls(params, **data, init=paths["seg"], out=cls, training=training, read=read)
    index, volumes = paths["index"], paths["preprocess"]
    encode_cases(params, index=index, preprocess=volumes, model=paths["cls"], out=encodings)
    label = get_labeller(labeller, names).label
    inputs = ReportPaths(
        paths["index"], encodings, paths["tokenizer"], paths["seg"], paths["cls"], None
    )
    train_report(
        params, paths=inputs, out=paths["report"], label=label, training=training,
        readers=Readers(DecidingWords(rules, read), read),
    )  # fmt: skip


def _predict(paths: dict[str, Path]) -> None:
    """Write the report of a test phantom."""
    from uvlm import Predictor
    from uvlm.data.cases import read_index
    from uvlm.files import store_root

    case = next(case for case in read_index(paths["index"]) if case.split == "test")
    draft = Predictor.load(paths["report"]).predict(store_root() / case.volume)
    if not isinstance(draft.report.text, str):
        raise SystemExit("the draft has no report")
    sys.stdout.write(f"a report of {len(draft.report.text.split())} words\n")


if __name__ == "__main__":
    if found := [name for name in ABSENT if importlib.util.find_spec(name)]:
        raise SystemExit(f"{', '.join(found)} can be imported here: this shows nothing")
    os.environ.setdefault("UVLM_DEVICE", "cpu")
    main(Path(sys.argv[1]))
    if loaded := {name.partition(".")[0] for name in sys.modules} & {*ABSENT, "pipeline"}:
        raise SystemExit(f"{', '.join(sorted(loaded))} was loaded by the library")
