"""What the parameters decide together, judged before the first stage has spent an hour on them.

`Params` knows every key, type and range. Whether a data set of that name exists or the sizes can be
built is known further up; each owner is asked here, on modules without weights.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.profiles import check_profile
from uvlm.config import Params
from uvlm.data.label_scheme import scheme
from uvlm.data.labels.label_maps import LabelMaps
from uvlm.data.sets.catalogue import choose_set
from uvlm.errors import SetupError
from uvlm.evaluation.labeller import check_labeller
from uvlm.model.describe import describe
from uvlm.text.abnormalities import abnormality_names


def check_params(params: Params, root: Path) -> None:
    """Raise the ConfigError that a later stage of these parameters would end with."""
    if (root / "conf").is_dir():  # params.yaml alone is enough for the stages
        check_profile(root, params.profile)
    choose_set(params)
    check_labeller(params.evaluate.labeller, abnormality_names(params))
    classes = scheme(params.label_maps.dataset, LabelMaps.of(params).config.scheme)
    try:
        describe(params, classes.num_classes, len(abnormality_names(params)))
    except SetupError:  # Qwen3 may be only where the training runs
        return
