"""The first inputs of one seed; `make fuzz` goes on for longer."""

import pytest
from fuzz import fuzz

pytestmark = pytest.mark.anyio


async def test_mutated_scenes_are_answered_and_the_pool_is_never_lost(pool):
    outcomes = await fuzz(pool, seed=0, numbers=range(200))
    assert outcomes["scenes"] == 200
    assert outcomes["drawn"] > 40
    assert outcomes["stepped"] > 40
    assert outcomes["not drawn: scene_invalid"] > 40
