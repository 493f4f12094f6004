"""DVC stage `download`: raw volumes, reports, labels and masks, as the data sets publish them."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from pipeline.paths import manifest
from pipeline.stage import Stage, run_stage
from uvlm.data.sets.catalogue import choose_set
from uvlm.errors import SetupError
from uvlm.store import rows_by_case
from uvlm.text.abnormalities import ABNORMALITIES


def download(stage: Stage) -> None:
    """Put the files of the profile's data set into the store and name them in the manifest."""
    label = partial(_label, stage.params.evaluate.labeller)
    data_set = choose_set(stage.params).for_label_maps(stage.params.label_maps.cases)
    data_set.fetch(manifest("download"), label, stage.progress.cases, stage.code)
    for line in data_set.remarks(rows_by_case(manifest("download"))):
        sys.stderr.write(f"download: {line}\n")


def _label(name: str, texts: Any) -> Any:
    """Label a person's own reports, whose table has no labels."""
    from uvlm.evaluation.labeller import check_language_for, get_labeller

    try:
        labeller = get_labeller(name)
        check_language_for(labeller, texts)
        return labeller.label(texts)
    except SetupError as error:
        raise SetupError(
            "download.folder",
            f"the table has no labels, and evaluate.labeller cannot give them ({error.fact})",
            f"add the {len(ABNORMALITIES)} columns of docs/own_data.md to the table",
        ) from None


if __name__ == "__main__":
    run_stage("download", download)
