"""A session's progress: the order of requests, the cameras of an episode, and what an episode forgets."""

import numpy as np
import pytest

from vla_server_base.contract import Observation, Task
from vla_server_base.errors import ImageError, Superseded
from vla_server_base.sessions.progress import SessionProgress, is_same_task, new_progress
from vla_server_base.sessions.requests import StepRequest
from vla_server_base.sessions.settings import SessionSettings
from vla_server_base.testing import EchoAdapter

LIFT = Task(instruction="lift it")


@pytest.fixture
def progress() -> SessionProgress:
    return new_progress(EchoAdapter().spec, SessionSettings(), seed=7)


def request(level: int = 0, cameras: tuple[str, ...] = ("primary",), **fields) -> StepRequest:
    images = {camera: np.full((4, 4, 3), level, np.uint8) for camera in cameras}
    return StepRequest(observation=Observation(images=images), task=LIFT, **fields)


def advance(progress: SessionProgress, step: StepRequest) -> int:
    return progress.advance(step, progress.visible(step), progress.age(step))


def test_requests_without_an_order_come_one_after_the_other(progress):
    assert [advance(progress, request()) for _ in range(3)] == [0, 1, 2]


def test_skipped_steps_count_as_steps(progress):
    advance(progress, request())
    assert advance(progress, request(num_skipped=2)) == 3


@pytest.mark.parametrize(("sequence", "age"), [(5, 0), (6, 1), (9, 4)])
def test_the_age_of_a_request_follows_from_its_sequence(progress, sequence, age):
    advance(progress, request(sequence=5))
    assert progress.age(request(sequence=sequence)) == age


@pytest.mark.parametrize(("obs_time", "age"), [(1.5, 0), (1.6, 1), (30.0, 1)])
def test_without_a_sequence_the_observation_time_orders_requests(progress, obs_time, age):
    advance(progress, request(obs_time=1.5))
    assert progress.age(request(obs_time=obs_time)) == age


@pytest.mark.parametrize(
    ("first", "older", "message"),
    [
        ({"sequence": 5}, {"sequence": 4}, "observation 4 is older than 5"),
        ({"obs_time": 1.5}, {"obs_time": 1.4}, "the observation of 1.4 s is older than 1.5"),
    ],
)
def test_an_older_request_is_superseded(progress, first, older, message):
    advance(progress, request(**first))
    with pytest.raises(Superseded, match=message):
        progress.age(request(**older))


def test_a_sequence_after_an_observation_time_cannot_be_compared(progress):
    advance(progress, request(obs_time=1.5))
    assert progress.age(request(sequence=0)) == 1


def test_another_camera_of_a_group_is_left_out(progress):
    left = {"primary": ("exterior", "left")}
    advance(progress, request(sources=left))
    right = request(cameras=("primary", "wrist"), sources={"primary": ("exterior", "right")})
    assert set(progress.visible(right).images) == {"wrist"}
    assert progress.sources == left


def test_another_camera_alone_is_refused_and_named(progress):
    advance(progress, request(sources={"primary": ("exterior", "left")}))
    with pytest.raises(ImageError, match="are of right, and this episode began with left"):
        progress.visible(request(sources={"primary": ("exterior", "right")}))


def test_a_new_episode_keeps_only_the_seed_and_counts(progress):
    advance(progress, request(sequence=5, sources={"primary": ("exterior", "left")}))
    progress.begin_episode(None)
    assert (progress.seed, progress.episode, progress.step) == (7, 1, 0)
    assert (progress.sequence, progress.task, progress.sources, progress.history.seen) == (None, None, {}, ())
    progress.begin_episode(8)
    assert (progress.seed, progress.episode) == (8, 2)


def test_an_episode_continues_with_its_task_or_with_any_if_tasks_do_not_reset(progress):
    assert not progress.continues(LIFT, reset_on_new_task=False), "it has not begun"
    advance(progress, request())
    assert progress.continues(Task(instruction="lift it"), reset_on_new_task=True)
    assert not progress.continues(Task(instruction="push it"), reset_on_new_task=True)
    assert progress.continues(Task(instruction="push it"), reset_on_new_task=False)


def test_the_images_of_the_window_and_of_the_goal_count(progress):
    assert progress.num_image_bytes == 0
    goal = Task(goal_images={"primary": np.zeros((2, 2, 3), np.uint8)})
    advance(progress, StepRequest(observation=request().observation, task=goal))
    assert progress.num_image_bytes == 4 * 4 * 3 + 2 * 2 * 3
    for _ in range(3):
        advance(progress, StepRequest(observation=request().observation, task=goal))
    assert progress.num_image_bytes == 2 * 4 * 4 * 3 + 2 * 2 * 3, "the window has two observations"


def test_tasks_are_the_same_by_their_content():
    def goal(level: int, camera: str = "primary") -> Task:
        return Task(instruction="go", goal_images={camera: np.full((2, 2, 3), level, np.uint8)})

    assert is_same_task(goal(1), goal(1))
    assert not is_same_task(goal(1), goal(2))
    assert not is_same_task(goal(1), goal(1, "wrist"))
    assert not is_same_task(goal(1), Task(instruction="go"))
