"""DVC stage `download`: raw volumes, reports, labels and masks, as the data sets publish them."""

from __future__ import annotations

from pipeline.paths import manifest
from pipeline.stage import Stage, run_stage
from uvlm.errors import SetupError


def download(stage: Stage) -> None:
    """Write the phantom data set below the store, and its manifest."""
    config = stage.params.download
    if config.source != "phantom" or config.phantom is None:
        raise SetupError(
            f"download.source {config.source}",
            "its adapter needs the network and a token, and is not part of this release",
            "run `uvlm use phantom`",
        )
    from uvlm.data.phantom.dataset import write_dataset

    write_dataset(config.phantom, stage.params.seed, manifest("download"), stage.progress.cases)


if __name__ == "__main__":
    run_stage("download", download)
