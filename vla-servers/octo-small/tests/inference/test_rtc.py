"""Real-time chunking: Octo's next chunk continues the one that its robot is executing."""

from dataclasses import replace

import numpy as np
import pytest
from small_octo import DIFFUSION, REGRESSION, small_checkpoint

from octo_service.adapter import OctoSmallAdapter
from octo_service.inference.batched import BatchedInference
from octo_service.inference.guides import guide_of
from octo_service.model.heads.guidance import prefix_weights
from vla_server_base.contract import PreviousChunk
from vla_server_base.testing.policy_inputs import an_input

# Random weights are no denoiser: guidance amplifies what a batch rounds otherwise.
GUIDED_TOLERANCE = 2e-2


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> OctoSmallAdapter:
    loaded = OctoSmallAdapter()
    loaded.load_model("random://octo-tiny", "cpu", tmp_path_factory.mktemp("cache"))
    return loaded


def previous_of(chunk: np.ndarray, delay: int, horizon: int) -> PreviousChunk:
    return PreviousChunk(actions=chunk, inference_delay=delay, execution_horizon=horizon)


def test_the_next_chunk_begins_as_the_last_one_and_leaves_it_by_and_by(adapter: OctoSmallAdapter):
    assert adapter.spec.supports_rtc
    last, free, guided = [], [], []
    for seed in range(8):
        (old,) = adapter.predict([an_input(adapter, image_seed=1, seed=seed)])
        request = replace(an_input(adapter, image_seed=2, seed=100 + seed), step=1)
        last.append(old[0])
        free.append(adapter.predict([request])[0][0])
        guided.append(adapter.predict([replace(request, previous=previous_of(old[0], 1, 3))])[0][0])
    to_guided, to_free = (np.abs(np.array(each) - last).mean(axis=(0, 2)) for each in (guided, free))
    assert to_guided[0] < 1e-4
    assert (to_guided[1:3] < to_free[1:3]).all()
    assert (np.diff(to_guided[:3]) > 0).all()


def test_noise_and_previous_chunk_determine_a_guided_chunk(adapter: OctoSmallAdapter):
    request = an_input(adapter, seed=3)
    (old,) = adapter.predict([request])
    continuing = replace(request, step=2, previous=previous_of(old[0][1:], 2, 3))
    first, second = (adapter.predict([continuing])[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, adapter.predict([replace(continuing, previous=None)])[0])
    (three,) = adapter.predict([replace(continuing, num_samples=3)])
    np.testing.assert_array_equal(three[:1], first)
    np.testing.assert_allclose(three[:, :2], np.broadcast_to(old[0][1:3], (3, *old[0][1:3].shape)), atol=1e-4)


def test_guided_requests_share_a_batch_with_each_other_and_not_with_the_rest(adapter: OctoSmallAdapter, monkeypatch):
    (old,) = adapter.predict([an_input(adapter, seed=4)])
    batch = [
        an_input(adapter, seed=5),
        replace(an_input(adapter, seed=6), previous=previous_of(old[0], 2, 4)),
        replace(an_input(adapter, seed=7), previous=previous_of(old[0][2:], 1, 1)),
    ]
    alone = [adapter.predict([each])[0] for each in batch]
    monkeypatch.setattr(adapter, "_batched", BatchedInference(adapter.model))
    for found, expected in zip(adapter.predict(batch), alone, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=GUIDED_TOLERANCE)


def test_numbers_and_rows_that_the_last_chunk_lacks_are_free(adapter: OctoSmallAdapter):
    head = replace(adapter.model.head, action_horizon=4, action_dim=3)
    guide = guide_of(previous_of(np.ones((2, 2), np.float32), 1, 4), head)
    assert guide is not None
    weights = guide.weights.reshape(4, 3)
    np.testing.assert_array_equal(weights[:, 0], prefix_weights(1, 2, 4))
    np.testing.assert_array_equal(weights[:, 2], 0)
    np.testing.assert_array_equal(weights[2:], 0)
    assert guide_of(None, head) is None


def test_only_a_head_that_denoises_can_be_guided(monkeypatch, tmp_path):
    for head, can in ((DIFFUSION, True), (REGRESSION, False)):
        monkeypatch.setattr(
            "octo_service.model.random_weights.random_checkpoint", lambda _, head=head: small_checkpoint(head)
        )
        adapter = OctoSmallAdapter()
        adapter.load_model("random://octo-tiny", "cpu", tmp_path)
        assert adapter.spec.supports_rtc is can
