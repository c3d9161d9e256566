"""Demonstrations: what a policy would have seen while an expert did a task, and what the expert did.

>>> demonstrations = Demonstrations(pool, (draw_trial(task, seed) for seed in range(100)))
>>> async for demonstration in demonstrations: ...
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image as PillowImage

from vla_server_base.contract import Image, Observation
from vla_server_base.datasets import RecordedEpisode
from vla_server_base.episodes.interfaces import World
from vla_server_base.scenes.messages import RenderedView, RolloutRequest, SimulationState, View
from vla_server_base.tabletop.dagger import Disturbances, Driver, Lead
from vla_server_base.tabletop.experts import expert_action
from vla_server_base.tabletop.tables import OBJECTS, TableState, read_state
from vla_server_base.tabletop.tasks import TabletopTask
from vla_server_base.tabletop.trials import Trial, draw_glance


def average_areas(image: Image, height: int, width: int) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """Bring a picture to a size by averaging areas."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(PillowImage.fromarray(image).resize((width, height), PillowImage.Resampling.BOX))


@dataclass(frozen=True, kw_only=True)
class DemonstrationSettings:
    """How demonstrations are made.

    Pictures are drawn at `view`, as a server draws them for a policy, and then brought to `picture_sides`, pixels along
    each side by camera, by `resize`, which takes a picture, height and width; a policy is best shown what its own
    resizing makes. Cameras without a side are left out, and without a `view` there are no pictures. After the task is
    done, `steps_after` more steps are shown. `lead` is a policy that drives at first, without disturbances. With each
    step come so many `glances`.
    """

    max_steps: int = 100
    steps_after: int = 2
    view: View | None = field(default_factory=View)
    picture_sides: Mapping[str, int] = field(default_factory=lambda: {"primary": 128, "wrist": 64})
    resize: Callable[[Image, int, int], Image] = average_areas
    disturbances: Disturbances | None = field(default_factory=Disturbances)
    lead: Lead | None = None
    glances: int = 0


@dataclass(frozen=True, kw_only=True)
class DemonstratedStep:
    """What was seen, what the expert would do (`label`), and what was executed: not the same while disturbed.

    The observation's `proprio` is the arm's joint positions [rad], then how far the gripper is open, 0 to 1;
    `environment_state` is what a policy has to see. `expert_drove` is False where a policy did.
    """

    observation: Observation
    environment_state: Float32[np.ndarray, " 16"]
    label: Float[np.ndarray, " 7"]
    executed: Float[np.ndarray, " 7"]
    expert_drove: bool


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """One trial, as the expert, or at first a policy, went through it.

    `glances` are of one step each: moments with the arm as it was in one of `steps`, and objects and task drawn anew.
    """

    trial: Trial
    steps: tuple[DemonstratedStep, ...]
    success: bool
    glances: tuple["Demonstration", ...] = ()

    @property
    def is_worth_learning(self) -> bool:
        """Whether it succeeded, or a policy drove to the end: it is what that does wrong that the labels are for."""
        return self.success or not self.steps[-1].expert_drove

    def recorded(self) -> RecordedEpisode:
        """Return it as datasets keep it; the actions are the expert's labels."""
        first, trial = self.steps[0].observation, self.trial
        return RecordedEpisode(
            images={name: np.stack([step.observation.images[name] for step in self.steps]) for name in first.images},
            proprio=np.array([step.observation.proprio for step in self.steps], np.float32),
            environment_state=np.array([step.environment_state for step in self.steps]),
            actions=np.array([step.label for step in self.steps], np.float32),
            instruction=trial.instruction,
            expert_drove=np.array([step.expert_drove for step in self.steps]),
            metadata={"task": trial.task.name, "seed": trial.seed, "robot": trial.table.robot, "success": self.success},
        )


class Demonstrations:
    """The demonstrations of some trials, in their order; `num_at_once` are in the making at once.

    Those not worth learning are left out unless `keep_failures`. `num_made` and `num_failed` count those made so far.
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

    async def __aiter__(self) -> AsyncGenerator[Demonstration, None]:
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
                if demonstration.is_worth_learning or self._keep_failures:
                    yield demonstration
        finally:
            for task in making:
                task.cancel()
            await asyncio.gather(*making, return_exceptions=True)


async def demonstrate(world: World, trial: Trial, settings: DemonstrationSettings) -> Demonstration:
    """Have the expert do one trial. The same trial and settings give the same demonstration, bit for bit.

    Raises:
        SceneError, Unavailable: what the world says.
    """
    success = trial.task.success(trial.table)
    measures = tuple(predicate.measure for predicate in success)
    driver = Driver(trial, settings.disturbances, settings.lead, settings.max_steps + settings.steps_after)
    reply = await world.roll_out(trial.scene, RolloutRequest(start=trial.start, measures=measures, view=settings.view))
    assert reply.pose is not None, "a tabletop has an arm"
    at_start, state, pose = reply.measures, reply.state, reply.pose
    steps: list[DemonstratedStep] = []
    glances: list[Demonstration] = []
    num_left = settings.max_steps
    is_done = False
    while num_left > 0:
        index, now = len(steps), read_state(trial.table, state, pose)
        label = expert_action(now, trial.task)
        executed = await driver.action(index, label, reply.view)
        steps.append(_step(trial, now, state, reply.view, label, executed, driver.expert_drives(index), settings))
        for number in range(settings.glances):
            glanced = draw_glance(trial, now, state.qpos, settings.glances * index + number)
            glances.append(await _glance(world, glanced, settings))
        request = RolloutRequest(start=reply.end, actions=executed[None], measures=measures, view=settings.view)
        reply = await world.roll_out(trial.scene, request)
        state, pose = reply.steps[0].state, reply.steps[0].pose
        num_left -= 1
        judged = zip(success, reply.steps[0].measures, at_start, strict=True)
        if not is_done and all(predicate.holds(value, start) for predicate, value, start in judged):
            is_done, num_left = True, settings.steps_after
    return Demonstration(trial=trial, steps=tuple(steps), success=is_done, glances=tuple(glances))


async def _glance(world: World, trial: Trial, settings: DemonstrationSettings) -> Demonstration:
    """Return what the expert would do at the start of a trial; nothing is executed."""
    reply = await world.roll_out(trial.scene, RolloutRequest(start=trial.start, view=settings.view))
    assert reply.pose is not None, "a tabletop has an arm"
    now = read_state(trial.table, reply.state, reply.pose)
    label = expert_action(now, trial.task)
    step = _step(trial, now, reply.state, reply.view, label, label, False, settings)
    return Demonstration(trial=trial, steps=(step,), success=False)


def _step(
    trial: Trial,
    now: TableState,
    state: SimulationState,
    pictures: RenderedView | None,
    label: Float[np.ndarray, " 7"],
    executed: Float[np.ndarray, " 7"],
    expert_drove: bool,
    settings: DemonstrationSettings,
) -> DemonstratedStep:
    drawn = pictures.images if pictures else {}
    sides = {name: side for name, side in settings.picture_sides.items() if name in drawn}
    images = {name: settings.resize(drawn[name], side, side) for name, side in sides.items()}
    return DemonstratedStep(
        observation=Observation(images=images, proprio=proprio(now, state)),
        environment_state=environment_state(trial.task, now),
        label=label,
        executed=executed,
        expert_drove=expert_drove,
    )


def environment_state(task: TabletopTask, now: TableState) -> Float32[np.ndarray, " 16"]:
    """Return what a policy has to see and to hear, as numbers to be learnt.

    They are the way from the gripper, along the base's axes [m], to the task's object, to its target (to the object
    again where it has none) and to each of `OBJECTS`; then how far the gripper is open, 0 to 1. Only what is named
    depends on the instruction: actions alone, which are much alike whatever is named, teach that far more slowly.
    """
    named = (task.object, task.target or task.object)
    places = [now.things[name].position - now.position for name in (*named, *OBJECTS)]
    return np.concatenate([*places, [now.openness]]).astype(np.float32)


def proprio(now: TableState, state: SimulationState) -> Float[np.ndarray, " proprio_dim"]:
    """Return the arm's joint positions [rad], then how far the gripper is open, 0 to 1."""
    return np.array([*state.qpos[: now.table.num_joints], now.openness])
