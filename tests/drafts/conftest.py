"""The model folders and CTs of tests/inference."""

from __future__ import annotations

from tests.inference.conftest import _one_thread as _one_thread
from tests.inference.conftest import params as params
from tests.inference.conftest import report_folder as report_folder
