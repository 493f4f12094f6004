"""The hub of the tests speaks as the real one does: huggingface_hub itself is content with it."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import hf_hub_download

from tests.data.sets.hub.server import COMMIT, FILES, LARGE, SMALL, FakeHub


@pytest.mark.parametrize("path", [SMALL, LARGE])
def test_huggingface_hub_itself_understands_the_server(
    path: str, fake: FakeHub, tmp_path: Path
) -> None:
    arguments = {"repo_type": "dataset", "endpoint": fake.endpoint, "local_dir": tmp_path}
    found = hf_hub_download(fake.repo, path, revision=COMMIT, **arguments)  # type: ignore[call-overload]
    assert Path(found).read_bytes() == FILES[path]
    api = huggingface_hub.HfApi(endpoint=fake.endpoint)
    (info,) = api.get_paths_info(fake.repo, path, revision=COMMIT, repo_type="dataset")
    (listed,) = api.list_repo_tree(
        fake.repo, path.rpartition("/")[0], revision=COMMIT, repo_type="dataset"
    )
    assert isinstance(info, huggingface_hub.RepoFile)
    assert info.path == listed.path == path
    assert info.size == len(FILES[path])
    assert (info.lfs is not None) == (path == LARGE)
