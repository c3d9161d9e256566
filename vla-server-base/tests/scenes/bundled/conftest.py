"""Every test here that asks for an arm runs for each robot."""

import pytest
from bundled_arm import ROBOTS, BundledArm


@pytest.fixture(params=ROBOTS)
def arm(request: pytest.FixtureRequest) -> BundledArm:
    return BundledArm(request.param)
