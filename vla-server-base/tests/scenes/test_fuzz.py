"""A few seconds of fuzzing with a fixed seed; `make fuzz` goes on for longer."""

import pytest
from fuzz import fuzz

pytestmark = pytest.mark.anyio


async def test_mutated_scenes_are_answered_and_the_pool_is_never_lost(pool):
    outcomes = await fuzz(pool, seconds=5, seed=0)
    assert outcomes["drawn"] > 5
    assert outcomes["scene_invalid"] > 5
