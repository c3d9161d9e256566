"""Several requests in one batch, as on a GPU: each gets what it gets alone, up to the order of sums."""

import numpy as np
import pytest
from policy_requests import an_input, seen_by

from lerobot_service.adapter import LeRobotAdapter
from vla_server_base.contract import PreviousChunk

# Other sums of float32, in the units of the actions, which are a few long here.
TOLERANCE = 2e-5
TEXTS = ("pick up the red cube", "open the drawer", "go")


@pytest.fixture(scope="module")
def batching(kind, adapter_of) -> LeRobotAdapter:
    return adapter_of(kind, batched=True)


def test_a_request_in_a_batch_gets_what_it_gets_alone(adapter, batching):
    requests = [
        an_input(adapter, [seen_by(adapter.spec, row)], text, seed=row, step=row, num_samples=1 + row)
        for row, text in enumerate(TEXTS)
    ]
    together, alone = batching.predict(requests), adapter.predict(requests)
    assert batching._chunks.together
    for in_batch, by_itself in zip(together, alone, strict=True):
        np.testing.assert_allclose(in_batch, by_itself, rtol=0, atol=TOLERANCE)


def test_samples_are_the_first_one_and_others(adapter):
    observation = seen_by(adapter.spec)
    one, four = (adapter.predict([an_input(adapter, [observation], num_samples=n)])[0] for n in (1, 4))
    assert four.shape == (4, adapter.spec.horizon, adapter.spec.action_dim)
    assert np.array_equal(four[:1], one)
    draws_noise = not np.array_equal(four[0], four[1])
    assert len({sample.tobytes() for sample in four}) == (4 if draws_noise else 1)


def test_requests_that_continue_chunks_share_a_batch_with_their_like(adapter, batching):
    if not adapter.spec.supports_rtc:
        return
    requests = []
    for row, (delay, horizon, rest) in enumerate([(2, 5, 8), (2, 5, 8), (1, 5, 8), (2, 5, 6), (0, 0, 0)]):
        plain = an_input(adapter, [seen_by(adapter.spec, row)], seed=row)
        chunk = adapter.predict([plain])[0][0]
        rest_of_chunk = PreviousChunk(actions=chunk[:rest], inference_delay=delay, execution_horizon=horizon)
        requests.append(
            an_input(adapter, [seen_by(adapter.spec, row + 9)], seed=row, previous=rest_of_chunk if rest else None)
        )
    for in_batch, by_itself in zip(batching.predict(requests), adapter.predict(requests), strict=True):
        np.testing.assert_allclose(in_batch, by_itself, rtol=0, atol=TOLERANCE)
