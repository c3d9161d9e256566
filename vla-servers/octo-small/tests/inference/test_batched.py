"""Requests that share a pass get what each would get alone."""

from dataclasses import replace

import numpy as np
import pytest

from octo_service.adapter import OctoSmallAdapter
from octo_service.inference.batched import BUCKETS, BatchedInference
from vla_server_base.contract import PolicyInput, Task
from vla_server_base.testing.policy_inputs import an_input

# Whole windows and single timesteps round differently, and the head amplifies that.
TOLERANCE = 2e-4
GOAL = Task(goal_images={"primary": np.full((64, 64, 3), 200, np.uint8)})


@pytest.fixture(scope="module", params=["random://octo-tiny", "bundled://tabletop"])
def adapter(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> OctoSmallAdapter:
    loaded = OctoSmallAdapter()
    loaded.load_model(request.param, "cpu", tmp_path_factory.mktemp("cache"))
    return loaded


def predicted(adapter: OctoSmallAdapter, batch: list[PolicyInput]) -> list[np.ndarray]:
    together = BatchedInference(adapter.model)
    noises = [adapter._noise.of(policy_input) for policy_input in batch]
    return together.predict(batch, noises, [adapter.spec.action_dim] * len(batch))


def assert_as_alone(adapter: OctoSmallAdapter, batch: list[PolicyInput]) -> None:
    for policy_input, chunks in zip(batch, predicted(adapter, batch), strict=True):
        (alone,) = adapter.predict([policy_input])
        np.testing.assert_allclose(chunks, alone, rtol=0, atol=TOLERANCE)


def test_requests_that_differ_in_everything_share_a_pass(adapter: OctoSmallAdapter):
    assert_as_alone(
        adapter,
        [
            an_input(adapter, seed=1),
            an_input(adapter, seed=2, cameras=["primary"], task=Task(instruction="open the drawer")),
            an_input(adapter, seed=3, cameras=["wrist"], num_seen=2),
            an_input(adapter, seed=4, task=GOAL if adapter.spec.takes_goal_images else None, num_samples=3),
            replace(an_input(adapter, seed=5), step=7),
        ],
    )


@pytest.mark.parametrize("count", [2, BUCKETS[-1] + 1])
def test_any_number_of_requests_is_answered(adapter: OctoSmallAdapter, count: int):
    assert_as_alone(adapter, [an_input(adapter, seed=seed, num_samples=1 + seed % 2) for seed in range(count)])


def test_what_is_not_a_bucket_is_filled_up_to_one(adapter: OctoSmallAdapter):
    predicted(adapter, [an_input(adapter, seed=seed) for seed in range(4)])
    compiled = adapter.model._read_out._cache_size()
    predicted(adapter, [an_input(adapter, seed=seed, cameras=["wrist"]) for seed in range(3)])
    assert adapter.model._read_out._cache_size() == compiled
