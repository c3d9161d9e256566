"""Every test here that asks for an arm runs for each robot."""

import pytest
from arm import ROBOTS, Arm


@pytest.fixture(params=ROBOTS)
def arm(request: pytest.FixtureRequest) -> Arm:
    return Arm(request.param)
