"""Where the goldens are, and the small policies that many tests share."""

from pathlib import Path

import pytest

pytest.register_assert_rewrite("vla_server_base.testing.contract")


@pytest.fixture(scope="session")
def goldens() -> Path:
    return Path(__file__).parent / "goldens"
