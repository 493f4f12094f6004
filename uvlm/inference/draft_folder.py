"""Folders that commands fill for their user: checked before any work, whole or not at all.

segmentation.nii.gz      class ids on the CT's own grid and axes
segmentation.json        the name of every class id
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from uvlm.data.ct.io import write_label_map
from uvlm.data.ct.volume import LabelMap
from uvlm.errors import ConfigError, SetupError
from uvlm.files import filling_folder, try_filling, write_json_atomic

SEGMENTATION: Final = "segmentation.nii.gz"
CLASS_NAMES: Final = "segmentation.json"
ELSEWHERE: Final = "choose another --out"


def check_writable(folder: Path) -> None:
    """Refuse, before any work is done, a folder that cannot be filled.

    Raises:
        ConfigError: it is a file.
        SetupError: the operating system does not allow it.
    """
    with written(folder):
        if os.path.lexists(folder) and not folder.is_dir():
            raise ConfigError(folder, "is a file, not a folder", ELSEWHERE)
        try_filling(folder)


def write_segmentation(folder: Path, label_map: LabelMap, class_names: Sequence[str]) -> None:
    """Write a label map and the names of its ids."""
    write_label_map(folder / SEGMENTATION, label_map)
    write_json_atomic(folder / CLASS_NAMES, {str(i): name for i, name in enumerate(class_names)})


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder whose files move into `folder` at the end, if all went well.

    Files of other names in `folder` are left alone.
    """
    with written(folder), filling_folder(folder, keep_others=True) as temporary:
        yield temporary


@contextmanager
def written(folder: Path) -> Iterator[None]:
    """Turn an error of the operating system into one line about `folder`."""
    try:
        yield
    except OSError as error:
        fact = f"cannot be written ({error.strerror or error})"
        raise SetupError(folder, fact, ELSEWHERE) from None
