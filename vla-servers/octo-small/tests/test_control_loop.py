"""The example's control loop: on a simulated arm at a real server, and where server, policy or network misbehave."""

import inspect
import runpy
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import widowx_control_loop as loop
from simulated_arm import SimulatedArm

from octo_service.adapter import OctoSmallAdapter
from vla_client import Policy
from vla_server_base.config import ServerConfig
from vla_server_base.scenes.messages import RenderQuality
from vla_server_base.scenes.worker.rendering.renderer import open_renderer
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing import EchoAdapter

EXAMPLES = Path(inspect.getfile(loop)).parent
AMPLE_MS = 300_000.0
PANDAS_BOX = np.array([[0.2, -0.4, 0.01], [0.8, 0.4, 0.5]])


@pytest.fixture(scope="module")
def tabletop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with the policy in the package."""
    config = ServerConfig(cache_dir=tmp_path_factory.mktemp("cache"), device="cpu", scene_workers=1)
    with serving(create_vla_app(OctoSmallAdapter(), config, model_id="bundled://tabletop")) as url:
        yield url.replace("http", "ws")


@pytest.fixture(scope="module")
def renderer():
    return open_renderer("raycast", RenderQuality())


class Recorded:
    """An arm, and what it was told: `went` has when, from which goal, to which pose, and whether open."""

    def __init__(self, arm):
        self._arm = arm
        self.went: list[tuple] = []
        self.stood: list[np.ndarray] = []
        self.num_held = 0

    def __getattr__(self, name):
        return getattr(self._arm, name)

    def go(self, pose, is_open):
        self.went.append((self._arm.monotonic(), self._arm.goal(), pose, is_open))
        self._arm.go(pose, is_open)

    def hold(self):
        self.num_held += 1
        self._arm.hold()

    def sleep(self, seconds):
        self._arm.sleep(seconds)
        self.stood.append(self._arm.stands()[:3, 3])


@contextmanager
def echoing(adapter: EchoAdapter) -> Iterator[str]:
    with serving(create_vla_app(adapter, ServerConfig(scene_workers=1), model_id="echo")) as url:
        yield url.replace("http", "ws")


def distances(arm: SimulatedArm | Recorded) -> dict[str, float]:
    """How far the gripper's tip is from each object."""
    objects = ("red_cube", "blue_cube", "green_sphere")
    return {name: float(np.linalg.norm(arm.stands()[:3, 3] - arm.data.body(name).xpos)) for name in objects}


def assert_within_limits(arm: Recorded, box: np.ndarray) -> None:
    for _, goal, pose, _ in arm.went:
        assert (box[0] - 1e-9 <= pose[:3, 3]).all()
        assert (pose[:3, 3] <= box[1] + 1e-9).all()
        assert np.linalg.norm(pose[:3, 3] - goal[:3, 3]) <= loop.MAX_STEP_M + 1e-9
        assert np.trace(pose[:3, :3] @ goal[:3, :3].T) >= 1 + 2 * np.cos(loop.MAX_TURN_RAD) - 1e-9
    # The servos lag, and overshoot a little.
    assert (box[0] - 0.01 <= arm.stood).all()
    assert (arm.stood <= box[1] + 0.01).all()


def test_the_loop_is_no_longer_than_it_says():
    assert len((EXAMPLES / "widowx_control_loop.py").read_text().splitlines()) <= 60


@pytest.mark.parametrize("what", ["red_cube", "green_sphere"])
def test_a_widowx_goes_to_what_it_is_told_to_within_its_limits(tabletop, renderer, what):
    arm = Recorded(SimulatedArm(renderer))
    with Policy(tabletop, deadline_ms=AMPLE_MS, seed=0) as policy:
        loop.run(arm, policy, f"pick up the {what.replace('_', ' ')}", num_steps=25, clock=cast(Any, arm))
    assert len(arm.went) == 25
    found = distances(arm)
    assert min(found, key=lambda name: found[name]) == what
    assert found[what] < 0.05
    assert_within_limits(arm, np.array([loop.LOWEST, loop.HIGHEST]))


def test_a_panda_picks_up_what_it_is_told_to(tabletop, renderer, monkeypatch):
    monkeypatch.setattr(loop, "LOWEST", PANDAS_BOX[0])
    monkeypatch.setattr(loop, "HIGHEST", PANDAS_BOX[1])
    arm = Recorded(SimulatedArm(renderer, "panda"))
    with Policy(tabletop, deadline_ms=AMPLE_MS, seed=0) as policy:
        loop.run(arm, policy, "pick up the blue cube", num_steps=35, clock=cast(Any, arm))
    assert arm.data.body("blue_cube").xpos[2] > 0.1
    assert [is_open for *_, is_open in arm.went[:5]] == [True] * 5
    assert not arm.went[-1][3]
    assert_within_limits(arm, PANDAS_BOX)


def test_the_simulated_arm_runs_as_the_readme_says(tabletop, monkeypatch, capsys):
    monkeypatch.setattr(loop, "URL", tabletop)
    monkeypatch.setattr(loop, "DEADLINE_MS", AMPLE_MS)
    runpy.run_path(str(EXAMPLES / "simulated_arm.py"), run_name="__main__")
    assert "the red cube at a height of 0.0" in capsys.readouterr().out


class Wild(EchoAdapter):
    """Says anything, numbers that are none among it."""

    def postprocess_action(self, chunk, dataset, action_format):
        action = super().postprocess_action(chunk, dataset, action_format)
        dice = np.random.default_rng(int(1e6 * chunk[0, 6]))
        action.actions[0, :6] = dice.normal(size=6) * 10.0 ** dice.integers(-2, 30)
        if dice.random() < 0.2:
            action.actions[0, dice.integers(7)] = dice.choice([np.nan, np.inf, -np.inf])
        return action


def test_whatever_a_policy_says_the_limits_are_kept(renderer):
    arm = Recorded(SimulatedArm(renderer))
    vars(arm)["see"] = Painted().see
    with echoing(Wild()) as url, Policy(url, deadline_ms=AMPLE_MS, seed=0) as policy:
        loop.run(arm, policy, "go wild", num_steps=120, clock=cast(Any, arm))
    assert len(arm.went) > 60
    assert arm.num_held == 1 + 120 - len(arm.went) > 10
    assert_within_limits(arm, np.array([loop.LOWEST, loop.HIGHEST]))


def test_from_outside_the_box_the_arm_comes_back_at_its_speed():
    goal = np.eye(4)
    goal[:3, 3] = loop.HIGHEST + 0.1
    after = loop.next_goal(goal, np.zeros(7))
    assert np.linalg.norm(after[:3, 3] - goal[:3, 3]) == pytest.approx(loop.MAX_STEP_M)
    assert (after[:3, 3] < goal[:3, 3]).all()


def test_small_actions_are_taken_as_they_are():
    goal = np.eye(4)
    goal[:3, 3] = (loop.LOWEST + loop.HIGHEST) / 2
    after = loop.next_goal(goal, np.array([0.01, -0.02, 0.005, 0.0, 0.0, 0.1, 1.0]))
    np.testing.assert_allclose(after[:3, 3] - goal[:3, 3], [0.01, -0.02, 0.005])
    np.testing.assert_allclose(after[:3, 0], [np.cos(0.1), np.sin(0.1), 0])


class Painted:
    """An arm that sees a colour of each step's own, and a clock that goes on by what is slept, or as `see_s` says."""

    def __init__(self, see_s=()):
        self.now, self.num_seen, self.num_held = 0.0, 0, 0
        self.see_s = dict(see_s)
        self.went: list[tuple[int, float, float]] = []
        """At each go: which picture was the last, how far forward it led, and when."""

    def see(self):
        self.now += self.see_s.get(self.num_seen, 0.0)
        self.num_seen += 1
        return {"primary": np.full((8, 8, 3), (self.num_seen % 10, 0, 0), np.uint8)}, time.monotonic()

    def goal(self):
        goal = np.eye(4)
        goal[:3, 3] = loop.LOWEST
        return goal

    def go(self, pose, is_open):
        self.went.append((self.num_seen, float(255 * (pose - self.goal())[0, 3]), self.now))

    def hold(self):
        self.num_held += 1

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class Dawdling(EchoAdapter):
    """Answers at random moments, and not while `answers` is cleared."""

    def __init__(self):
        self.answers = threading.Event()
        self.answers.set()
        self._dice = np.random.default_rng(0)

    def predict(self, batch):
        self.answers.wait()
        time.sleep(self._dice.uniform(0, 0.1))
        return super().predict(batch)


def test_a_server_that_does_not_answer_has_the_arm_hold_still():
    arm, adapter = Painted(), Dawdling()
    with echoing(adapter) as url:
        with Policy(url, deadline_ms=50.0) as policy:
            adapter.answers.clear()
            loop.run(arm, policy, "go", num_steps=4, clock=cast(Any, arm))
            adapter.answers.set()
        assert (len(arm.went), arm.num_held) == (0, 5)
        with Policy(url, deadline_ms=AMPLE_MS) as policy:
            loop.run(arm, policy, "go", num_steps=2, clock=cast(Any, arm))
    assert [seen for seen, *_ in arm.went] == [5, 6]


def test_no_answer_to_an_older_picture_moves_the_arm():
    arm, adapter = Painted(), Dawdling()
    with echoing(adapter) as url, Policy(url, deadline_ms=70.0) as policy:
        loop.run(arm, policy, "go", num_steps=60, clock=cast(Any, arm))
    assert len(arm.went) + arm.num_held == 61
    assert [round(forward) for _, forward, _ in arm.went] == [seen % 10 for seen, *_ in arm.went]


def test_steps_come_five_times_a_second_and_are_not_caught_up_on():
    arm = Painted(see_s={3: 0.7})
    with echoing(EchoAdapter()) as url, Policy(url, deadline_ms=AMPLE_MS) as policy:
        loop.run(arm, policy, "go", num_steps=6, clock=cast(Any, arm))
    np.testing.assert_allclose([at for *_, at in arm.went], [0.0, 0.2, 0.4, 1.3, 1.5, 1.7])


def test_ctrl_c_leaves_the_arm_where_it_was_last_sent():
    class Interrupted(Painted):
        def see(self):
            if self.num_seen == 2:
                raise KeyboardInterrupt
            return super().see()

    arm = Interrupted()
    with (
        echoing(EchoAdapter()) as url,
        Policy(url, deadline_ms=AMPLE_MS) as policy,
        pytest.raises(KeyboardInterrupt),
    ):
        loop.run(arm, policy, "go", num_steps=6, clock=cast(Any, arm))
    assert (len(arm.went), arm.num_held) == (2, 1)
