"""What the tests of faults share: servers in processes of their own, with limits that a machine may set."""

import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS / "server"), str(TESTS / "protocols")]

from programs import LIMITED, MODULE, OURS, SLOW  # noqa: E402


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with `ours.py`, the echo policy's server, and `limited.py`, which starts it under limits."""
    (tmp_path / "echo_service.py").write_text(MODULE.format(model_id="echo"))
    (tmp_path / "ours.py").write_text(OURS)
    (tmp_path / "limited.py").write_text(LIMITED)
    return tmp_path


@pytest.fixture
def slow(folder: Path) -> Path:
    """The same, with a policy that takes as many milliseconds as a request's seed says."""
    (folder / "echo_service.py").write_text(SLOW)
    return folder
