"""What the parameters decide together, judged before the first stage has spent an hour on them.

`Params` knows every key, type and range. Whether a data set of that name exists, the sizes can be
built, or weights and packages are here is known further up; each owner is asked, on modules without
weights.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.profiles import check_profile
from uvlm import qwen_folder
from uvlm.config import LABEL_KINDS, Params
from uvlm.data.label_scheme import scheme
from uvlm.data.labels.label_maps import LabelMaps
from uvlm.data.labels.pseudo.backends import choose_backend
from uvlm.data.sets.catalogue import choose_set
from uvlm.errors import SetupError
from uvlm.evaluation.labeller import check_labeller, check_parts
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
    except SetupError:  # Qwen3 is missing, which check_setup says
        return


def check_setup(params: Params) -> None:
    """Refuse to begin without the weights, packages and services of a later stage.

    Raises:
        SetupError: its details have one line for each that is missing.
    """
    if missing := missing_parts(params):
        count = f"{len(missing)} part{'s' if missing[1:] else ''}"
        remedy = "set them up first, or choose a profile that does without (see the README)"
        error = SetupError(f"profile {params.profile}", f"lacks {count}", remedy)
        error.details = "\n".join(missing)
        raise error


def missing_parts(params: Params) -> list[str]:
    """List what later stages will ask for and not find, in a line each: for what, what, remedy."""
    users_by_line: dict[str, list[str]] = {}
    for user, ask in _questions(params):
        try:
            ask()
        except SetupError as error:
            users_by_line.setdefault(str(error), []).append(user)
    return [f"{' and '.join(users)}: {line}" for line, users in users_by_line.items()]


def _questions(params: Params) -> list[tuple[str, Callable[[], Any]]]:
    """Pair the parameters that need something from elsewhere with what finds out if it is here."""
    backends = params.pseudo_label
    questions: list[tuple[str, Callable[[], Any]]] = [
        (f"pseudo_label.{kind}", choose_backend(kind, getattr(backends, kind)).provenance)
        for kind in LABEL_KINDS
    ]
    if params.tokenizer.kind == "qwen3":
        questions.append(("tokenizer", partial(qwen_folder.qwen_file, "tokenizer.json")))
    if params.decoder.kind != "scratch":
        questions.append(("decoder", partial(qwen_folder.qwen_file, "config.json")))
        questions.append(("decoder", qwen_folder.qwen_weights))
    labeller = params.evaluate.labeller
    return [*questions, ("evaluate.labeller", partial(check_parts, labeller))]
