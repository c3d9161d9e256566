"""Where the goldens are, and the small policies that many tests share."""

import sys
from pathlib import Path

import pytest

pytest.register_assert_rewrite("vla_server_base.testing.contract")
sys.path.append(str(Path(__file__).parents[3] / "examples"))


@pytest.fixture(scope="session")
def goldens() -> Path:
    return Path(__file__).parent / "goldens"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--windows", type=int, default=300, help="how many random windows test_missing_cameras.py asks for"
    )
