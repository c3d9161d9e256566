"""What a policy requires: one check, for in-process callers too, and a session that it refuses stays as it was."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vla_server_base.config import ServerConfig
from vla_server_base.contract import Observation, PolicyRequest, Task
from vla_server_base.engine.engine import pad_window
from vla_server_base.engine.engines import Engines
from vla_server_base.engine.in_process import InProcessEngine
from vla_server_base.errors import ImageError, InstructionError, RequestError
from vla_server_base.request_inputs import check_observation, check_task
from vla_server_base.sessions.registry import Sessions
from vla_server_base.sessions.requests import StepRequest
from vla_server_base.sessions.step import run_step
from vla_server_base.testing import EchoAdapter, JointEcho

pytestmark = pytest.mark.anyio

SPEC = JointEcho().spec
IMAGE = np.zeros((8, 8, 3), np.uint8)
WHOLE = Observation(images={"top": IMAGE, "left_wrist": IMAGE}, proprio=np.zeros(8))
BLIND, STATELESS = replace(WHOLE, images={"top": IMAGE}), replace(WHOLE, proprio=None)


@pytest.fixture
async def engine():
    engine = InProcessEngine(JointEcho(), ServerConfig(), "echo")
    engine.start()
    await engine.loaded()
    yield engine
    await engine.close()


def request(*observations: Observation) -> PolicyRequest:
    return PolicyRequest(window=pad_window(observations, SPEC.window), task=Task(), seed=1)


@pytest.mark.parametrize(
    ("lacking", "kind", "said"),
    [
        (BLIND, ImageError, "the image of the camera 'left_wrist' is missing"),
        (STATELESS, RequestError, r"proprio of 8 numbers \(waist, .* is missing"),
        (
            replace(BLIND, proprio=None),
            ImageError,
            "camera 'left_wrist' and proprio of 8 .* are missing",
        ),
        (replace(WHOLE, proprio=np.zeros(7)), RequestError, r"proprio: expected 8 numbers \(waist, .*, got 7"),
    ],
)
async def test_an_observation_without_what_is_required_is_refused_everywhere(engine, lacking, kind, said):
    with pytest.raises(kind, match=said):
        check_observation(lacking, SPEC)
    for observations in ((lacking,), (lacking, WHOLE), (WHOLE, lacking)):
        with pytest.raises(kind, match=said):
            await engine.predict(request(*observations))
    await engine.predict(request(WHOLE))


def test_what_is_not_required_may_be_missing():
    check_observation(Observation(images={}), EchoAdapter().spec)
    check_observation(WHOLE, SPEC)


def test_a_task_needs_an_instruction_only_where_the_policy_reads_one():
    check_task(Task(), SPEC)
    check_task(Task(goal_images={"primary": IMAGE}), EchoAdapter().spec)
    for instruction in (None, "", " \n"):
        with pytest.raises(InstructionError, match="there is no instruction"):
            check_task(Task(instruction=instruction), EchoAdapter().spec)


async def test_a_step_that_is_refused_begins_no_session_and_ends_none(engine, tmp_path):
    sessions = Sessions(Engines(engine), ServerConfig(cache_dir=tmp_path))

    async def act(observation: Observation, session_id: str, **fields: Any) -> int:
        step = StepRequest(observation=observation, task=Task(), session_id=session_id, connection="socket", **fields)
        return (await run_step(sessions, step)).step

    assert await act(WHOLE, "arm") == 0
    for lacking in (BLIND, STATELESS):
        with pytest.raises(RequestError):
            await act(lacking, "other")
        with pytest.raises(RequestError):
            await act(lacking, "arm", reset=True, seed=4)
    assert [status.id for status in sessions.statuses()] == ["arm"]
    assert await act(WHOLE, "arm") == 1


async def test_a_required_camera_of_another_hand_is_as_good_as_missing(engine, tmp_path):
    session = Sessions(Engines(engine), ServerConfig(cache_dir=tmp_path)).open("arm")
    step = StepRequest(observation=WHOLE, task=Task(), sources={"left_wrist": ("hands", "left")})
    await session.step(step)
    with pytest.raises(ImageError, match="'left_wrist' is missing"):
        await session.step(replace(step, sources={"left_wrist": ("hands", "right")}))
    assert (await session.step(step)).step == 1
