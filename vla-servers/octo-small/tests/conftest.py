"""Where the goldens are, and the small policies that many tests share."""

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("vla_server_base.testing.contract")
sys.path += [str(Path(__file__).parents[3] / folder) for folder in ("examples", "benchmarks")]

# How long an example takes says how busy the machine is, not whether the code is right.
settings.register_profile("untimed", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def goldens() -> Path:
    return Path(__file__).parent / "goldens"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--windows", type=int, default=300, help="how many random windows test_missing_cameras.py asks for"
    )
