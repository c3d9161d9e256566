"""Demonstrations: what a policy would have seen while an expert did a task, and what the expert did.

>>> demonstrations = Demonstrations(pool, (draw_trial(task, seed) for seed in range(100)))
>>> async for demonstration in demonstrations: ...
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image as PillowImage

from vla_server_base.contract import Image, Observation
from vla_server_base.episodes import World
from vla_server_base.scenes.messages import Pictures, RolloutRequest, SimulationState, View
from vla_server_base.tabletop.experts import OPEN, STRIDE_M, TURN_RAD, expert_action, shortened
from vla_server_base.tabletop.tables import TableState, read_state
from vla_server_base.tabletop.trials import Trial


@dataclass(frozen=True, kw_only=True)
class Disturbances:
    """What goes wrong now and then, so that demonstrations show how to recover.

    At each step a nudge begins with the chance `nudge_rate`: for `nudge_steps` steps, the executed motion is off by
    one drawn from +-`nudge_m` along each axis and +-`nudge_rad` of yaw. With the chance `drop_rate` the gripper is open
    for `drop_steps` steps, whatever it was to do.
    """

    nudge_rate: float = 0.06
    nudge_steps: int = 3
    nudge_m: float = 0.03
    nudge_rad: float = 0.15
    drop_rate: float = 0.02
    drop_steps: int = 2


@dataclass(frozen=True, kw_only=True)
class DemonstrationSettings:
    """How demonstrations are made.

    Pictures are drawn at `view` and then brought to `picture_sides`, pixels along each side by camera, by averaging
    areas; cameras without one are left out, and without a `view` there are no pictures. After the task is done,
    `steps_after` more steps are shown.
    """

    max_steps: int = 100
    steps_after: int = 2
    view: View | None = field(default_factory=lambda: View(height=128, width=128))
    picture_sides: Mapping[str, int] = field(default_factory=lambda: {"primary": 128, "wrist": 64})
    disturbances: Disturbances | None = field(default_factory=Disturbances)


@dataclass(frozen=True, kw_only=True)
class DemonstratedStep:
    """What was seen, what the expert would do (`label`), and what was executed: not the same while disturbed.

    The observation's `proprio` is the arm's joint positions [rad], then how far the gripper is open, 0 to 1.
    """

    observation: Observation
    label: Float[np.ndarray, " 7"]
    executed: Float[np.ndarray, " 7"]


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """One trial, as the expert went through it."""

    trial: Trial
    steps: tuple[DemonstratedStep, ...]
    success: bool


class Demonstrations:
    """The demonstrations of some trials, in their order; two are in the making at once.

    Failures are left out unless `keep_failures`. `num_made` and `num_failed` count those made so far.
    """

    def __init__(
        self,
        world: World,
        trials: Iterable[Trial],
        settings: DemonstrationSettings | None = None,
        *,
        keep_failures: bool = False,
        num_at_once: int = 2,
    ):
        self.num_made = self.num_failed = 0
        self._world, self._trials, self._settings = world, trials, settings or DemonstrationSettings()
        self._keep_failures, self._num_at_once = keep_failures, num_at_once

    async def __aiter__(self) -> AsyncIterator[Demonstration]:
        trials, making = iter(self._trials), deque[asyncio.Task[Demonstration]]()
        try:
            while True:
                while len(making) < self._num_at_once and (trial := next(trials, None)) is not None:
                    making.append(asyncio.create_task(demonstrate(self._world, trial, self._settings)))
                if not making:
                    return
                demonstration = await making.popleft()
                self.num_made += 1
                self.num_failed += not demonstration.success
                if demonstration.success or self._keep_failures:
                    yield demonstration
        finally:
            for task in making:
                task.cancel()


async def demonstrate(world: World, trial: Trial, settings: DemonstrationSettings) -> Demonstration:
    """Have the expert do one trial. The same trial and settings give the same demonstration, bit for bit.

    Raises:
        SceneError, Unavailable: what the world says.
    """
    success = trial.task.success(trial.table)
    measures = tuple(predicate.measure for predicate in success)
    disturbed = _Disturbed(settings, trial.seed)
    reply = await world.roll_out(trial.scene, RolloutRequest(start=trial.start, measures=measures, view=settings.view))
    assert reply.pose is not None, "a tabletop has an arm"
    at_start, state, pose = reply.measures, reply.state, reply.pose
    steps: list[DemonstratedStep] = []
    num_left = settings.max_steps
    is_done = False
    while num_left > 0:
        now = read_state(trial.table, state, pose)
        label = expert_action(now, trial.task)
        executed = disturbed.action(len(steps), label)
        seen = _observation(now, state, reply.pictures, settings.picture_sides)
        steps.append(DemonstratedStep(observation=seen, label=label, executed=executed))
        request = RolloutRequest(start=reply.end, actions=executed[None], measures=measures, view=settings.view)
        reply = await world.roll_out(trial.scene, request)
        state, pose = reply.steps[0].state, reply.steps[0].pose
        num_left -= 1
        judged = zip(success, reply.steps[0].measures, at_start, strict=True)
        if not is_done and all(predicate.holds(value, start) for predicate, value, start in judged):
            is_done, num_left = True, settings.steps_after
    return Demonstration(trial=trial, steps=tuple(steps), success=is_done)


class _Disturbed:
    """What becomes of an expert's actions; drawn ahead, so that it depends on nothing but seed and settings."""

    def __init__(self, settings: DemonstrationSettings, seed: int):
        num_steps = settings.max_steps + settings.steps_after
        self._shifts: Float[np.ndarray, "steps 4"] = np.zeros((num_steps, 4))
        self._drops: Bool[np.ndarray, " steps"] = np.zeros(num_steps, bool)
        if settings.disturbances is None:
            return
        what, random = settings.disturbances, np.random.default_rng([seed, 1])
        bounds = np.array([what.nudge_m, what.nudge_m, what.nudge_m, what.nudge_rad])
        for step in range(num_steps):
            shift, (nudged, dropped) = random.uniform(-bounds, bounds), random.random(2)
            if nudged < what.nudge_rate:
                self._shifts[step : step + what.nudge_steps] = shift
            if dropped < what.drop_rate:
                self._drops[step : step + what.drop_steps] = True

    def action(self, step: int, label: Float[np.ndarray, " 7"]) -> Float[np.ndarray, " 7"]:
        """Return what is executed in place of an expert's action."""
        action = label.copy()
        if self._shifts[step].any():
            action[[0, 1, 2, 5]] += self._shifts[step]
            action[:6] = [*shortened(action[:3], STRIDE_M), *shortened(action[3:6], TURN_RAD)]
        if self._drops[step]:
            action[6] = OPEN
        return action


def _observation(
    now: TableState, state: SimulationState, pictures: Pictures | None, sides: Mapping[str, int]
) -> Observation:
    drawn = pictures.images if pictures else {}
    images = {name: _averaged(drawn[name], side) for name, side in sides.items() if name in drawn}
    return Observation(images=images, proprio=proprio(now, state))


def proprio(now: TableState, state: SimulationState) -> Float[np.ndarray, " proprio_dim"]:
    """Return the arm's joint positions [rad], then how far the gripper is open, 0 to 1."""
    return np.array([*state.qpos[: now.table.num_joints], now.gap / now.table.open_gap])


def _averaged(image: Image, side: int) -> UInt8[np.ndarray, "side side 3"]:
    """Bring a picture to a size by averaging areas."""
    if image.shape[:2] == (side, side):
        return image
    return np.asarray(PillowImage.fromarray(image).resize((side, side), PillowImage.Resampling.BOX))
