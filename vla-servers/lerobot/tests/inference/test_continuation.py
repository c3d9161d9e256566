"""Real-time chunking: a new chunk continues the last one, as LeRobot's own guidance makes it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from lerobot.policies.rtc import RTCConfig, reanchor_relative_rtc_prefix
from lerobot.processor import NormalizerProcessorStep, RelativeActionsProcessorStep
from lerobot_itself import LeRobotItself
from policy_requests import an_input, seen_by

from lerobot_service.adapter import LeRobotAdapter
from vla_server_base.contract import PreviousChunk

CONTINUING = ("pi0", "pi05", "pi0_relative", "smolvla")


@pytest.fixture(scope="module", params=CONTINUING)
def continuing(request, adapter_of) -> LeRobotAdapter:
    return adapter_of(request.param)


@pytest.fixture(scope="module")
def itself(continuing) -> LeRobotItself:
    """LeRobot's own policy, with real-time chunking switched on as its rollout does."""
    itself = LeRobotItself(Path(continuing.spec.model))
    itself.policy.config.rtc_config = RTCConfig(enabled=True)
    itself.policy.init_rtc_processor()
    return itself


def test_only_flow_policies_continue_chunks(adapter, kind):
    assert adapter.spec.supports_rtc == (kind in CONTINUING)


def test_frozen_rows_are_the_old_chunks_and_later_ones_are_drawn_less_and_less(continuing):
    old, requests = a_chunk_two_steps_late(continuing)
    free, guided = (np.abs(continuing.predict([each])[0][0, :6] - old[:6]).max(axis=-1) for each in requests)
    assert (guided[:2] < free[:2] / 100).all()
    assert (guided[:5] < free[:5]).all()
    assert list(guided[1:5]) == sorted(guided[1:5])


def test_a_continued_chunk_is_what_lerobot_predicts(continuing, itself):
    old, (_, request) = a_chunk_two_steps_late(continuing)
    batch = itself.batch(seen_by(continuing.spec, 1))
    normalized = itself.pre({**batch, "action": torch.from_numpy(old)[None]})["action"]
    options = {"inference_delay": 2, "execution_horizon": 5, "prev_chunk_left_over": normalized}
    assert np.array_equal(continuing.predict([request])[0][0], itself.chunk_of_batch([batch], 4, **options))


def test_relative_actions_are_taken_from_the_state_now_as_lerobots_rollout_takes_them(adapter_of, checkpoint):
    adapter, itself = adapter_of("pi0_relative"), LeRobotItself(checkpoint("pi0_relative"))
    old, _ = a_chunk_two_steps_late(adapter)
    batch = itself.batch(seen_by(adapter.spec, 1))
    steps = {type(step): step for step in itself.pre.steps}
    relative, normalizer = steps[RelativeActionsProcessorStep], steps[NormalizerProcessorStep]
    theirs = reanchor_relative_rtc_prefix(
        torch.from_numpy(old), batch["observation.state"], relative, normalizer, torch.device("cpu")
    )
    assert torch.equal(itself.pre({**batch, "action": torch.from_numpy(old)[None]})["action"][0], theirs)


def a_chunk_two_steps_late(adapter):
    """Return what is left of a chunk, and the next request without it and with it."""
    old = adapter.predict([an_input(adapter, [seen_by(adapter.spec)], seed=3)])[0][0, 2:]
    previous = PreviousChunk(actions=old, inference_delay=2, execution_horizon=5)
    seen = [seen_by(adapter.spec, 1)]
    return old, [an_input(adapter, seen, seed=4, previous=each) for each in (None, previous)]
