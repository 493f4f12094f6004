#!/usr/bin/env bash
# Makes project.tar.xz and numbers.json with the code as it was before the moves:
#     git worktree add --detach /tmp/before_the_moves 9586cbd
#     bash tests/golden/before_the_moves/make.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd /tmp/before_the_moves
export PYTHONPATH=$PWD UVLM_DEVICE=cpu UVLM_PRECISION=32-true UVLM_WORKERS=1 OMP_NUM_THREADS=1
export MPLBACKEND=Agg MLFLOW_DISABLE_TELEMETRY=true HF_HUB_OFFLINE=1

compose() { # [KEY=VALUE...]: params.yaml, as small as the tests' own or smaller
    python - "$@" <<'PY'
import json
import sys
from pathlib import Path

from pipeline.profiles import compose, write_params
from tests.conftest import TINY

SMALLER = {
    "download.phantom.train_patients": 5,
    "download.phantom.test_patients": 2,
    "download.phantom.second_scan_fraction": 0.0,
    "download.phantom.second_reconstruction_fraction": 0.0,
    "encoder.channels": [2, 2, 4, 4, 4, 4],
    "classifier.num_queries": 4,
    "classifier.heads": 2,
    "decoder.ffn": 16,
    "decoder.max_report_tokens": 48,
    "tokenizer.vocabulary_size": 300,
    "train_report.steps": 60,
}
changes = {key: json.loads(value) for key, value in (a.split("=") for a in sys.argv[1:])}
document = compose(Path.cwd(), "phantom")
for key, value in (TINY | SMALLER | changes).items():
    *parents, name = key.split(".")
    section = document
    for parent in parents:
        section = section[parent]
    section[name] = value
write_params(Path.cwd(), document)
PY
}

compose
for stage in download index preprocess "pseudo_label anatomy" "pseudo_label airway" \
    "pseudo_label vessel" label_maps tokenizer audit train_seg train_cls encode train_report \
    generate evaluate summarize; do
    # shellcheck disable=SC2086  # a kind is an argument of its own
    python -m pipeline.$stage
done

compose train_seg.steps=400
python -m pipeline.train_seg &
until compgen -G ".uvlm/state/train_seg-*/state.safetensors" >/dev/null; do sleep 0.05; done
kill -TERM $!
wait $! || [[ $? == 5 ]]
compose

python - "$here/numbers.json" <<'PY'
import json
import sys
from pathlib import Path

import numpy as np
import torch

from uvlm.data.io import read_volume
from uvlm.data.preprocess import normalise, preprocess_volume
from uvlm.inference.predictor import Predictor
from uvlm.inference.segment import Segmenter
from uvlm.model.checkpoint import load_classifier, load_segmenter

(ct,) = Path("data/store/raw").rglob("ct_rate/dataset/valid_fixed/*/*/valid_1_a_1.nii.gz")
models = Path("data/models")
predictor = Predictor.load(models / "report")
draft = predictor.predict(ct)
voxels = normalise(preprocess_volume(read_volume(ct), predictor.preprocess)[0], predictor.preprocess)
segmenter = Segmenter.of(load_segmenter(models / "seg").unet, predictor.segmenter.patch)
cls = load_classifier(models / "cls")
with torch.no_grad():
    logits = cls.classifier(cls.encoder(torch.from_numpy(voxels)[None, None])[-1])
numbers = {
    "ct": str(ct),
    "seg": {"voxels_by_class": np.bincount(segmenter.labels(voxels[None]).ravel()).tolist()},
    "cls": {"logits": logits[0].tolist()},
    "report": {
        "text": draft.report.text,
        "probabilities": draft.probabilities,
        "voxels_by_class": np.bincount(draft.label_map.array.ravel()).tolist(),
    },
}
Path(sys.argv[1]).write_text(json.dumps(numbers) + "\n")
PY

tar --create --xz --file "$here/project.tar.xz" --exclude=.gitignore --sort=name \
    --owner=0 --group=0 --numeric-owner params.yaml mlflow.db data/manifests data/models data/store .uvlm
