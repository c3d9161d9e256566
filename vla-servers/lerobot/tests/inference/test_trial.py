"""A policy is tried at load: what it cannot keep is refused, or is not offered."""

from pathlib import Path

import numpy as np
import pytest
import torch
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy
from policy_requests import an_input, seen_by

from lerobot_service.adapter import LeRobotAdapter
from vla_server_base.errors import ModelUnavailable


def load(folder: Path, *, batched: bool | None = None) -> LeRobotAdapter:
    adapter = LeRobotAdapter(batched=batched)
    adapter.load_model(str(folder), "cpu", Path("unused"))
    return adapter


@pytest.fixture
def change_chunks(monkeypatch):
    """What changes the chunks of every ACT."""
    predict = ACTPolicy.predict_action_chunk

    def change(changed) -> None:
        monkeypatch.setattr(ACTPolicy, "predict_action_chunk", lambda self, batch: changed(predict(self, batch)))

    return change


def test_a_policy_with_a_state_between_predictions_is_refused(checkpoint, change_chunks):
    count = iter(range(100))
    change_chunks(lambda chunk: chunk + next(count))
    with pytest.raises(ModelUnavailable, match="keeps a state"):
        load(checkpoint("act"))


def test_a_policy_whose_noise_no_seed_fixes_is_refused(checkpoint, change_chunks):
    change_chunks(lambda chunk: chunk + torch.nn.functional.dropout(torch.ones(1), training=True))
    with pytest.raises(ModelUnavailable, match="global generator"):
        load(checkpoint("act"))


def test_a_policy_that_raises_is_refused_with_what_it_says(checkpoint, change_chunks):
    change_chunks(lambda chunk: chunk.no_such_thing)
    with pytest.raises(ModelUnavailable, match="no_such_thing"):
        load(checkpoint("act"))


def test_a_policy_whose_rows_depend_on_each_other_answers_one_by_one(checkpoint, change_chunks):
    change_chunks(lambda chunk: chunk - chunk.mean(dim=0))
    adapter = load(checkpoint("act"), batched=True)
    assert "one by one" in adapter.spec.details["notes"][-1]
    requests = [an_input(adapter, [seen_by(adapter.spec, seed)]) for seed in range(2)]
    assert np.array_equal(adapter.predict(requests)[0], adapter.predict(requests[:1])[0])


def test_a_policy_whose_noise_does_not_split_answers_one_by_one(checkpoint, change_chunks):
    change_chunks(lambda chunk: chunk + torch.randn(1, 1, 1))
    adapter = load(checkpoint("act"), batched=True)
    assert "one by one" in adapter.spec.details["notes"][-1]


def test_real_time_chunking_that_does_not_continue_a_chunk_is_not_offered(checkpoint, monkeypatch):
    predict = SmolVLAPolicy.predict_action_chunk
    monkeypatch.setattr(SmolVLAPolicy, "predict_action_chunk", lambda self, batch, **_: predict(self, batch))
    spec = load(checkpoint("smolvla")).spec
    assert not spec.supports_rtc
    assert "real-time chunking" in spec.details["notes"][-1]


def test_a_policy_without_a_state_needs_none(checkpoint, tmp_path):
    from checkpoints_of_types import SIZES, act, features

    adapter = load(act(tmp_path, **features(SIZES, state_dim=0)))
    assert adapter.spec.proprio_dim is None
    assert not adapter.spec.requires_proprio
