"""A model replica, without a cluster: what it answers to servers, and what it refuses."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from window_echo import EchoSettings, WindowEcho

from vla_server_base.config import ServerConfig
from vla_server_base.contract import Observation, PolicyRequest, Task
from vla_server_base.engine.batches import Prediction
from vla_server_base.engine.engine import pad_window
from vla_server_base.errors import DeadlinePassed, InstructionError, Unavailable
from vla_server_base.fleet.description import fingerprint
from vla_server_base.fleet.model_replica import ModelReplica
from vla_server_base.fleet.origin import Origin

# Python, too, calls the asynchronous `__del__` that Ray Serve awaits.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

OBSERVATION = Observation(images={"primary": np.full((8, 8, 3), 7, np.uint8)})
REQUEST = PolicyRequest(window=pad_window([OBSERVATION], 2), task=Task(instruction="go"), seed=3)


async def answered(request: PolicyRequest, tmp_path, **changes):
    """Return what a replica answers to a request with a changed origin."""
    replica = ModelReplica.__new__(ModelReplica)
    await replica.__init__("window_echo:WindowEcho", EchoSettings(), ServerConfig(cache_dir=tmp_path))
    try:
        description = await replica.describe()
        assert description.fingerprint == fingerprint(description.adapter.spec)
        return await replica.predict(replace(Origin.current(description.fingerprint), **changes), request)
    finally:
        await replica.__del__()


def test_it_answers_with_normalized_chunks(tmp_path):
    outcome = asyncio.run(answered(REQUEST, tmp_path))
    assert isinstance(outcome, Prediction)
    assert outcome.chunks.shape == (1, 4, 7)


@pytest.mark.parametrize(
    ("request_", "changes", "refusal"),
    [
        (REQUEST, {"model": "another"}, Unavailable),
        (REQUEST, {"deadline_s": -1.0}, DeadlinePassed),
        (replace(REQUEST, task=Task()), {}, InstructionError),
    ],
    ids=["read for another model", "too late", "no instruction"],
)
def test_it_returns_errors_with_their_kind(tmp_path, request_, changes, refusal):
    assert type(asyncio.run(answered(request_, tmp_path, **changes))) is refusal


def test_a_fingerprint_is_of_the_weights_and_not_of_the_machine():

    spec = WindowEcho(EchoSettings()).spec
    assert fingerprint(replace(spec, device="another", platform="gpu")) == fingerprint(spec)
    assert fingerprint(replace(spec, details={"checkpoint_hash": "1"})) != fingerprint(spec)
    assert fingerprint(replace(spec, horizon=5)) != fingerprint(spec)
