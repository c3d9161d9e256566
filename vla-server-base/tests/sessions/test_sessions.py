"""Sessions: one robot's window, steps, seed and chunk, whatever others do, whatever arrives in whatever order."""

import asyncio
import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_server_base.config import ServerConfig
from vla_server_base.contract import Observation, Task
from vla_server_base.engine.engines import Engines
from vla_server_base.engine.in_process import InProcessEngine
from vla_server_base.errors import (
    DeadlinePassed,
    ImageError,
    InvalidToken,
    NotFound,
    Overloaded,
    RequestError,
    Superseded,
    UnknownName,
)
from vla_server_base.request_context import current_client
from vla_server_base.sessions.registry import Sessions
from vla_server_base.sessions.requests import StepRequest
from vla_server_base.sessions.session import Session
from vla_server_base.testing import EchoAdapter
from vla_server_base.testing.echo import noise

pytestmark = pytest.mark.anyio

LIFT, PUSH = Task(instruction="lift it"), Task(instruction="push it")
RED, NUM_SEEN, NOISE = 0, 5, 6
"""Where the echo puts the newest picture's red, the number of timesteps that are not padding, and the noise."""


class GatedEcho(EchoAdapter):
    """An echo whose device can be held up."""

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.num_predicted = 0
        self.prefetched: list[tuple[int, int]] = []

    def predict(self, batch):
        self.gate.wait(30)
        self.num_predicted += len(batch)
        return super().predict(batch)

    def prefetch(self, policy_input):
        self.prefetched.append((policy_input.seed, policy_input.step))
        yield


@pytest.fixture
async def adapter(tmp_path):
    return GatedEcho()


@pytest.fixture
async def engine(adapter):
    engine = InProcessEngine(adapter, ServerConfig(), "echo")
    engine.start()
    while engine.status.state == "loading":
        await asyncio.sleep(0.01)
    yield engine
    adapter.gate.set()
    await engine.close()


@pytest.fixture
def sessions(engine, tmp_path):
    return made(engine, tmp_path)


def made(engine, tmp_path, **settings) -> Sessions:
    return Sessions(Engines(engine), ServerConfig(cache_dir=tmp_path, **settings))


def step_request(red: int, task: Task = LIFT, **fields) -> StepRequest:
    """Return a step that shows an image of one colour; the echo answers with it."""
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[..., 0] = red
    return StepRequest(observation=Observation(images={"primary": picture}), task=task, **fields)


async def acted(session: Session, *requests: StepRequest) -> list[np.ndarray]:
    return [(await session.step(each)).action.actions for each in requests]


async def test_a_session_fills_its_window_counts_its_steps_and_keeps_its_seed(sessions):
    session = sessions.open("arm", seed=7)
    answers = [await session.step(step_request(red)) for red in (51, 102, 153)]
    assert [answer.step for answer in answers] == [0, 1, 2]
    first_rows = np.array([answer.action.actions[0] for answer in answers])
    np.testing.assert_allclose(first_rows[:, RED], [0.2, 0.4, 0.6])
    np.testing.assert_allclose(first_rows[:, NUM_SEEN], [1, 2, 2])
    np.testing.assert_allclose(first_rows[:, NOISE], [noise(7, step) for step in range(3)])


async def test_eight_interleaved_sessions_get_what_each_gets_alone(sessions):
    requests = [[step_request(10 * robot + step) for step in range(6)] for robot in range(8)]
    alone = [await acted(sessions.open(f"alone-{robot}", seed=robot), *requests[robot]) for robot in range(8)]
    together = await asyncio.gather(
        *(acted(sessions.open(f"arm-{robot}", seed=robot), *requests[robot]) for robot in range(8))
    )
    np.testing.assert_array_equal(alone, together)


async def test_a_chunk_is_executed_before_the_policy_is_asked_again(sessions, adapter):
    session = sessions.open("arm", execution="chunk", execution_horizon=3, seed=1)
    before = adapter.num_predicted
    answers = [await session.step(step_request(255)) for _ in range(4)]
    assert [answer.asked_policy for answer in answers] == [True, False, False, True]
    assert adapter.num_predicted - before == 2
    np.testing.assert_allclose([answer.action.action[RED] for answer in answers], [1, 2, 3, 1])
    assert [len(answer.action.actions) for answer in answers] == [4, 3, 2, 4], "what is left of the chunk"


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({}, [1, 2, 3, 4]),
        ({"execution": "chunk", "execution_horizon": 2}, [2, 4]),
        ({"execution": "ensemble"}, [1, 2, 3, 4]),
    ],
)
async def test_the_device_prepares_for_the_next_step_that_asks_the_policy(sessions, adapter, settings, steps):
    session = sessions.open("arm", seed=7, **settings)
    for number in range(4):
        await session.step(step_request(number))
        expected = [(7, step) for step in steps if step <= number + 1]
        for _ in range(2000):
            if adapter.prefetched == expected:
                break
            await asyncio.sleep(0.001)
        assert adapter.prefetched == expected


async def test_an_ensemble_averages_what_the_chunks_say_of_the_present_step(sessions):
    session = sessions.open("arm", execution="ensemble", seed=1)
    actions = await acted(session, step_request(255), step_request(255), step_request(255))
    np.testing.assert_allclose([rows[:, RED] for rows in actions], [[1], [1.5], [2]])


async def test_skipped_steps_are_left_out_of_noise_and_chunk(sessions):
    session = sessions.open("arm", execution="chunk", execution_horizon=4, seed=1)
    answers = [await session.step(step_request(255, sequence=sequence)) for sequence in (10, 11, 13, 16)]
    assert [answer.step for answer in answers] == [0, 1, 3, 6]
    np.testing.assert_allclose([answer.action.action[RED] for answer in answers], [1, 2, 4, 1])
    np.testing.assert_allclose(answers[3].action.action[NOISE], noise(1, 6))


async def test_the_same_observation_once_more_gets_the_same_answer(sessions, adapter):
    session = sessions.open("arm", seed=1)
    first = await session.step(step_request(51, sequence=0))
    before = adapter.num_predicted
    again = await session.step(step_request(51, sequence=0))
    assert again is first
    assert adapter.num_predicted == before
    assert (await session.step(step_request(51, sequence=1))).step == 1


@pytest.mark.parametrize("order", ["sequence", "obs_time"])
async def test_an_older_observation_is_told_so_and_changes_nothing(sessions, order):
    session, other = sessions.open("arm", seed=1), sessions.open("other", seed=1)
    await acted(session, replace(step_request(51), **{order: 5}))
    with pytest.raises(Superseded, match="older than 5"):
        await session.step(replace(step_request(255), **{order: 4}))
    after = await acted(session, replace(step_request(102), **{order: 6}))
    expected = await acted(other, step_request(51), step_request(102))
    np.testing.assert_array_equal(after[0], expected[1])


async def test_an_observation_that_waits_is_superseded_by_a_newer_one(sessions, adapter):
    session = sessions.open("arm", seed=1)
    adapter.gate.clear()
    old = asyncio.ensure_future(session.step(step_request(51, sequence=0)))
    await asyncio.sleep(0.05)
    new = asyncio.ensure_future(session.step(step_request(102, sequence=1)))
    with pytest.raises(Superseded, match="newer observation"):
        await asyncio.wait_for(old, 5)
    adapter.gate.set()
    answer = await new
    np.testing.assert_allclose(answer.action.action[RED], 0.4)
    assert (answer.step, answer.action.action[NUM_SEEN]) == (1, 2), "what was seen in between counts"


async def test_an_answer_after_its_deadline_is_late_and_the_same_turn_may_ask_again(sessions, adapter):
    session = sessions.open("arm", seed=1)
    adapter.gate.clear()
    with pytest.raises(DeadlinePassed, match="no answer within the deadline of 50 ms"):
        await session.step(step_request(51, sequence=0, deadline_ms=50))
    adapter.gate.set()
    answer = await session.step(step_request(51, sequence=0))
    assert (answer.step, answer.action.action[NUM_SEEN]) == (0, 1)


async def test_a_client_that_went_away_gets_the_answer_when_it_asks_again(sessions, adapter):
    session = sessions.open("arm", seed=1)
    adapter.gate.clear()
    gone = asyncio.ensure_future(session.step(step_request(51, sequence=0)))
    await asyncio.sleep(0.05)
    gone.cancel()
    before = adapter.num_predicted
    back = asyncio.ensure_future(session.step(step_request(51, sequence=0)))
    await asyncio.sleep(0)
    adapter.gate.set()
    assert (await back).step == 0
    assert adapter.num_predicted == before + 1


async def test_another_instruction_begins_anew_unless_told_otherwise(sessions):
    for resets, steps, seen in ((True, [0, 1, 0], [1, 2, 1]), (False, [0, 1, 2], [1, 2, 2])):
        session = sessions.open(f"resets-{resets}", reset_on_new_task=resets, seed=1)
        answers = [await session.step(step_request(51, task, sequence=i)) for i, task in enumerate((LIFT, LIFT, PUSH))]
        assert [answer.step for answer in answers] == steps
        assert [answer.action.action[NUM_SEEN] for answer in answers] == seen


async def test_a_reset_begins_a_new_episode_with_the_seed_or_a_new_one(sessions):
    session = sessions.open("arm", seed=1)
    first = await acted(session, step_request(51, sequence=3), step_request(102, sequence=4))
    session.reset()
    np.testing.assert_array_equal(
        await acted(session, step_request(51, sequence=0), step_request(102, sequence=1)), first
    )
    session.reset(seed=2)
    assert (await session.step(step_request(51))).action.action[NOISE] == noise(2, 0)


@pytest.mark.parametrize(
    "settings",
    [
        {"execution": "receding"},
        {"execution": "chunk", "execution_horizon": 3},
        {"execution": "ensemble", "ensemble_weight": 0.1},
    ],
    ids=lambda settings: settings["execution"],
)
async def test_a_token_resumes_a_session_on_another_server_bit_for_bit(engine, tmp_path, settings):
    requests = [step_request(20 * step, sequence=step) for step in range(6)]
    whole = await acted(made(engine, tmp_path).open("arm", seed=9, **settings), *requests)

    before = made(engine, tmp_path)
    session = before.open("arm", seed=9, **settings)
    await acted(session, *requests[:2])
    token = await before.token(session)

    resumed = await made(engine, tmp_path).resume(token)
    assert (resumed.id, resumed.settings) == ("arm", session.settings)
    np.testing.assert_array_equal(np.concatenate(await acted(resumed, *requests[2:])), np.concatenate(whole[2:]))


async def test_a_token_of_a_session_that_is_still_here_finds_it_as_it_is(sessions):
    session = sessions.open("arm", seed=1)
    await acted(session, step_request(51))
    token = await sessions.token(session)
    await acted(session, step_request(51))
    assert await sessions.resume(token) is session
    assert session.progress.step == 2


async def test_a_session_that_went_on_at_another_server_goes_on_from_there(engine, tmp_path):
    requests = [step_request(20 * step, sequence=step) for step in range(6)]
    settings: dict[str, Any] = {"execution": "ensemble"}
    whole = await acted(made(engine, tmp_path).open("arm", seed=9, **settings), *requests)
    one, other = made(engine, tmp_path), made(engine, tmp_path)
    await acted(session := one.open("arm", seed=9, **settings), *requests[:2])
    await acted(there := await other.resume(await one.token(session)), *requests[2:4])
    assert await one.resume(await other.token(there)) is session
    np.testing.assert_array_equal(np.concatenate(await acted(session, *requests[4:])), np.concatenate(whole[4:]))


async def test_a_token_of_an_earlier_episode_changes_nothing(sessions):
    session = sessions.open("arm", seed=1)
    await acted(session, step_request(51), step_request(51))
    token = await sessions.token(session)
    session.reset()
    await acted(session, step_request(51))
    assert (await sessions.resume(token)).progress.step == 1


async def test_a_token_that_was_changed_or_is_too_old_or_anothers_is_refused(engine, tmp_path):
    sessions = made(engine, tmp_path)
    session = sessions.open("arm")
    await acted(session, step_request(51))
    token = await sessions.token(session)
    changed = token[:40] + ("B" if token[40] == "A" else "A") + token[41:]
    old = made(engine, tmp_path, session_token_s=1e-9)
    elsewhere = made(engine, tmp_path / "elsewhere")
    for refuses, presented in ((sessions, changed), (sessions, ""), (elsewhere, token)):
        with pytest.raises(InvalidToken, match="not signed by this server"):
            await refuses.resume(presented)
    aged = await old.token(session)
    assert await sessions.resume(aged) is session
    with pytest.raises(InvalidToken, match="too old"):
        await made(engine, tmp_path).resume(aged)
    assert (tmp_path / "session.key").stat().st_mode & 0o777 == 0o600


async def test_the_least_recently_used_idle_session_makes_room_for_another(engine, tmp_path, caplog):
    caplog.set_level(logging.INFO, "vla_server_base.sessions.registry")
    now = 0.0
    config = ServerConfig(cache_dir=tmp_path, max_sessions=2, session_idle_s=100)
    sessions = Sessions(Engines(engine), config, clock=lambda: now)
    for session_id in ("one", "two", "one", "three"):
        now += 1
        sessions.open(session_id)
    assert [status.id for status in sessions.statuses()] == ["three", "one"]
    assert "session=two was dropped after 2.0 s without a request" in caplog.text
    now = 103.5
    assert [status.id for status in sessions.statuses()] == ["three"]


async def test_sessions_that_wait_make_no_room(engine, adapter, tmp_path):
    sessions = made(engine, tmp_path, max_sessions=1)
    adapter.gate.clear()
    acting = asyncio.ensure_future(sessions.open("arm").step(step_request(51)))
    await asyncio.sleep(0.05)
    with pytest.raises(Overloaded, match="all 1 sessions of this server are in use"):
        sessions.open("other")
    adapter.gate.set()
    await acting
    assert sessions.open("other").progress.step == 0


async def test_a_token_of_a_session_that_made_room_resumes_it(engine, tmp_path):
    sessions = made(engine, tmp_path, max_sessions=1)
    session = sessions.open("arm", seed=1)
    await acted(session, step_request(51), step_request(51))
    token = await sessions.token(session)
    sessions.open("other")
    resumed = await sessions.resume(token)
    assert (resumed.id, resumed.progress.step, resumed.progress.seed) == ("arm", 2, 1)


async def test_a_session_that_waits_is_not_idle(engine, adapter, tmp_path):
    now = 0.0
    sessions = Sessions(Engines(engine), ServerConfig(cache_dir=tmp_path), clock=lambda: now)
    adapter.gate.clear()
    acting = asyncio.ensure_future(sessions.open("arm").step(step_request(51)))
    await asyncio.sleep(0.05)
    now = 1e6
    assert [(status.id, status.is_waiting) for status in sessions.statuses()] == [("arm", True)]
    adapter.gate.set()
    await acting


async def test_a_request_that_waits_for_an_ended_session_is_superseded(sessions, adapter):
    adapter.gate.clear()
    acting = asyncio.ensure_future(sessions.open("arm").step(step_request(51)))
    await asyncio.sleep(0.05)
    sessions.end("arm")
    with pytest.raises(Superseded, match="was ended"):
        await asyncio.wait_for(acting, 5)
    with pytest.raises(NotFound, match="no session 'arm'"):
        sessions.end("arm")


async def test_an_invalid_session_is_refused(sessions):
    with pytest.raises(RequestError, match="is not a session id"):
        sessions.open("a b")
    with pytest.raises(RequestError, match="execution_horizon: expected 1 to 4"):
        sessions.open("arm", execution="chunk", execution_horizon=5)
    with pytest.raises(UnknownName, match="dataset 'moon'"):
        sessions.open("arm", dataset="moon")


async def test_the_settings_of_an_episode_stay_until_it_ends(sessions):
    begun = sessions.open("arm", execution="ensemble", ensemble_weight=0.1)
    await begun.step(step_request(1, settings={"execution": "ensemble"}))
    await begun.step(step_request(1))
    with pytest.raises(RequestError, match=r"ensemble_weight 0.5 instead of 0.1 is requested"):
        await begun.step(step_request(1, settings={"ensemble_weight": 0.5}))
    with pytest.raises(UnknownName, match="dataset 'moon'"):
        await begun.step(step_request(1, settings={"dataset": "moon"}))
    with pytest.raises(RequestError, match=r"seed 9 instead of"):
        await begun.step(step_request(1, seed=9))
    assert begun.progress.step == 2


@pytest.mark.parametrize("begins", [{"reset": True}, {"task": PUSH}])
async def test_an_episode_begins_with_other_settings(sessions, begins):
    session = sessions.open("arm", seed=3)
    await acted(session, step_request(51), step_request(51))
    chunk = {"execution": "chunk", "execution_horizon": 2, "dataset": "echo_doubled"}
    answer = await session.step(step_request(51, settings=chunk, seed=4, **begins))
    assert (answer.step, answer.seed, answer.dataset, session.settings.execution) == (0, 4, "echo_doubled", "chunk")
    assert not (await session.step(step_request(51, begins.get("task", LIFT)))).asked_policy


async def test_a_session_that_is_named_keeps_its_settings_through_episodes(sessions):
    session = sessions.open("arm", dataset="echo_doubled")
    answers = [await session.step(step_request(51, task)) for task in (LIFT, PUSH)]
    session.reset()
    answers.append(await session.step(step_request(51)))
    assert [answer.dataset for answer in answers] == ["echo_doubled"] * 3


async def test_an_episode_of_a_connection_has_what_its_first_step_says(sessions):
    session = sessions.open("socket", execution="ensemble")
    asked = [{"execution": "ensemble"}, {}, {}]
    tasks = [LIFT, LIFT, PUSH]
    executed = []
    for task, settings in zip(tasks, asked, strict=True):
        await session.step(step_request(51, task, settings=settings, scope="episode"))
        executed.append(session.settings.execution)
    assert executed == ["ensemble", "ensemble", "receding"]


async def test_an_episode_of_a_connection_has_what_its_reset_says(sessions):
    session = sessions.open("socket")
    session.reset(settings={"dataset": "echo_doubled"}, scope="episode")
    assert (await session.step(step_request(51, scope="episode"))).dataset == "echo_doubled"
    session.reset(scope="episode")
    assert (await session.step(step_request(51, scope="episode"))).dataset == "echo"


async def test_at_an_address_each_request_says_what_it_wants_and_another_wish_begins_anew(sessions):
    session = sessions.open("act:robot", seed=1, dataset="echo_doubled")
    asked = [{"dataset": "echo_doubled"}, {"dataset": "echo_doubled"}, {}, {}]
    answers = [await session.step(step_request(51, settings=settings, scope="request")) for settings in asked]
    assert [answer.dataset for answer in answers] == ["echo_doubled", "echo_doubled", "echo", "echo"]
    assert [(answer.step, answer.seed) for answer in answers] == [(0, 1), (1, 1), (0, 1), (1, 1)]
    other = await session.step(step_request(51, seed=2, scope="request"))
    assert (other.step, other.seed) == (0, 2)


async def test_the_same_number_with_another_task_is_not_the_same_step(sessions):
    session = sessions.open("arm", seed=1)
    first = await session.step(step_request(51, sequence=0))
    second = await session.step(step_request(102, PUSH, sequence=0))
    assert (second.step, second.action.action[RED]) != (first.step, first.action.action[RED])


async def test_a_token_from_before_other_settings_does_not_bring_the_old_episode_back(sessions):
    session = sessions.open("arm", seed=1)
    await acted(session, step_request(51), step_request(51))
    token = await sessions.token(session)
    await session.step(step_request(51, reset=True, settings={"dataset": "echo_doubled"}))
    assert (await sessions.resume(token)).progress.step == 1


async def test_a_token_and_other_settings_are_refused_as_an_id_and_others_are(sessions):
    session = sessions.open("arm", seed=1)
    await acted(session, step_request(51))
    resumed = await sessions.resume(await sessions.token(session))
    with pytest.raises(RequestError, match="'echo_doubled' instead of 'echo'"):
        await resumed.step(step_request(51, settings={"dataset": "echo_doubled"}))


async def test_a_session_that_went_on_elsewhere_with_other_settings_goes_on_with_them(engine, tmp_path):
    one, other = made(engine, tmp_path), made(engine, tmp_path)
    await acted(session := one.open("arm", seed=9), step_request(51))
    there = await other.resume(await one.token(session))
    await acted(there, step_request(51, PUSH, settings={"dataset": "echo_doubled", "execution": "ensemble"}))
    assert await one.resume(await other.token(there)) is session
    answers = [await each.step(step_request(102, PUSH)) for each in (session, there)]
    np.testing.assert_array_equal(answers[0].action.actions, answers[1].action.actions)
    assert answers[0].dataset == "echo_doubled"


async def test_where_a_camera_misses_a_step_no_other_of_its_group_stands_in(sessions):
    session = sessions.open("arm")
    left, right = (step_request(51, sources={"primary": ("cameras", name)}) for name in ("left", "right"))
    await session.step(left)
    with pytest.raises(ImageError, match="the only images are of right, and this episode began with left"):
        await session.step(right)
    wrist = np.zeros((8, 8, 3), np.uint8)
    both = replace(right, observation=replace(right.observation, images={**right.observation.images, "wrist": wrist}))
    await session.step(both)
    assert [set(seen.images) for seen in session.progress.history.seen] == [{"primary"}, {"wrist"}]
    session.reset()
    await session.step(right)
    assert session.progress.sources == {"primary": ("cameras", "right")}
    await session.step(step_request(51))
    await session.step(step_request(51, sources={"primary": ("others", "left")}))


async def test_a_client_that_hoards_sessions_drives_out_its_own_not_anothers(engine, adapter, tmp_path):
    sessions = made(engine, tmp_path, max_sessions=3)
    current_client.set("10.0.0.1")
    sessions.open("robot")
    current_client.set("10.0.0.2")
    for number in range(5):
        sessions.open(f"hoarded {number}".replace(" ", "-"))
    assert {status.id for status in sessions.statuses()} == {"robot", "hoarded-3", "hoarded-4"}


async def test_the_images_of_all_sessions_stay_within_their_memory(engine, adapter, tmp_path):
    sessions = made(engine, tmp_path, session_mb=1)
    large = Observation(images={"primary": np.zeros((400, 400, 3), np.uint8)})
    session = None
    for number in range(4):
        session = sessions.open(f"arm-{number}")
        await session.step(StepRequest(observation=large, task=LIFT))
        sessions.keep_within_memory(session)
    assert session is not None
    assert session.progress.num_image_bytes == 480_000
    assert [status.id for status in sessions.statuses()] == ["arm-3", "arm-2"]


def damaged_mode(key: Path) -> None:
    key.chmod(0o644)


def damaged_length(key: Path) -> None:
    key.write_bytes(b"")


@pytest.mark.parametrize(("damage", "why"), [(damaged_mode, "the mode 0644"), (damaged_length, "has 0 bytes")])
async def test_a_key_that_others_may_know_is_not_trusted(engine, adapter, tmp_path, caplog, damage, why):
    session = made(engine, tmp_path).open("arm")
    await acted(session, step_request(51))
    token = await made(engine, tmp_path).token(session)
    damage(tmp_path / "session.key")
    after = made(engine, tmp_path)
    with pytest.raises(InvalidToken, match="not signed by this server"):
        await after.resume(token)
    assert why in caplog.text
    key = tmp_path / "session.key"
    assert (key.stat().st_mode & 0o777, key.stat().st_size) == (0o600, 32)
    assert await after.resume(await after.token(after.open("arm"))) is after.open("arm")
