"""Makes demonstrations: an expert does trials in simulation, and each step is observed and labelled.

>>> demonstrations = Demonstrations(pool, (draw_trial(task, seed) for seed in range(100)))
>>> async for demonstration in demonstrations: ...
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image as PillowImage

from vla_server_base.contract import Image, Observation
from vla_server_base.episodes.loop import World
from vla_server_base.scenes.messages import RolloutReply, RolloutRequest, SimulationState, View
from vla_server_base.tabletop.dagger import BehaviorPolicy, Disturbances, RollInPolicy
from vla_server_base.tabletop.demonstration import DemonstratedStep, Demonstration, environment_state
from vla_server_base.tabletop.experts import expert_action
from vla_server_base.tabletop.tables import TableState, read_state
from vla_server_base.tabletop.trials import Trial, draw_random_view


def average_areas(image: Image, height: int, width: int) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """Resize an image by averaging areas."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(PillowImage.fromarray(image).resize((width, height), PillowImage.Resampling.BOX))


@dataclass(frozen=True, kw_only=True)
class DemonstrationSettings:
    """How demonstrations are made.

    Images are rendered at `view`, as a server renders them for a policy, and then resized by `resize`, which takes an
    image, height and width, to the pixels per side in `image_sides` by camera; use the policy's own resizing. Cameras
    without a side are dropped; without a `view` there are no images. A demonstration continues for `steps_after` steps
    after the task is done. `roll_in` is a policy that acts first, without disturbances. `random_views` are made per
    step.
    """

    max_steps: int = 100
    steps_after: int = 2
    view: View | None = field(default_factory=View)
    image_sides: Mapping[str, int] = field(default_factory=lambda: {"primary": 128, "wrist": 64})
    resize: Callable[[Image, int, int], Image] = average_areas
    disturbances: Disturbances | None = field(default_factory=Disturbances)
    roll_in: RollInPolicy | None = None
    random_views: int = 0


class Demonstrations:
    """The demonstrations of trials, in their order; `num_at_once` are made concurrently.

    Failures that are not worth learning are dropped unless `keep_failures`. `num_made` and `num_failed` count so far.
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
        SceneError, Unavailable: from the world.
    """
    success = trial.task.success(trial.table)
    measures = tuple(predicate.measure for predicate in success)
    behavior = BehaviorPolicy(trial, settings.disturbances, settings.roll_in, settings.max_steps + settings.steps_after)
    reply = await world.roll_out(trial.scene, RolloutRequest(start=trial.start, measures=measures, view=settings.view))
    assert reply.pose is not None, "a tabletop has an arm"
    measures_at_start, state, pose = reply.measures, reply.state, reply.pose
    steps: list[DemonstratedStep] = []
    random_views: list[Demonstration] = []
    num_left, is_done = settings.max_steps, False
    while num_left > 0:
        index, table_state = len(steps), read_state(trial.table, state, pose)
        label = expert_action(table_state, trial.task)
        executed = await behavior.action(index, label, _images(reply), _measured(reply))
        observation = _observation(reply, settings)
        steps.append(_step(trial, table_state, observation, label, executed, behavior.expert_acts(index)))
        random_views += await _random_views(world, trial, table_state, state, index, settings)
        request = RolloutRequest(start=reply.end, actions=executed[None], measures=measures, view=settings.view)
        reply = await world.roll_out(trial.scene, request)
        state, pose = reply.steps[0].state, reply.steps[0].pose
        num_left -= 1
        results = zip(success, reply.steps[0].measures, measures_at_start, strict=True)
        if not is_done and all(predicate.holds(value, start) for predicate, value, start in results):
            is_done, num_left = True, settings.steps_after
    return Demonstration(trial=trial, steps=tuple(steps), success=is_done, random_views=tuple(random_views))


async def _random_views(
    world: World,
    trial: Trial,
    table_state: TableState,
    state: SimulationState,
    step: int,
    settings: DemonstrationSettings,
) -> list[Demonstration]:
    """Return the random views of one step of a trial."""
    first = settings.random_views * step
    views = [
        draw_random_view(trial, table_state, state.qpos, first + number) for number in range(settings.random_views)
    ]
    return [await _random_view(world, view, settings) for view in views]


async def _random_view(world: World, trial: Trial, settings: DemonstrationSettings) -> Demonstration:
    """Return the expert's action at the start of a trial; nothing is executed."""
    reply = await world.roll_out(trial.scene, RolloutRequest(start=trial.start, view=settings.view))
    assert reply.pose is not None, "a tabletop has an arm"
    table_state = read_state(trial.table, reply.state, reply.pose)
    label = expert_action(table_state, trial.task)
    observation = _observation(reply, settings)
    step = _step(trial, table_state, observation, label, label, False)
    return Demonstration(trial=trial, steps=(step,), success=False)


def _images(reply: RolloutReply) -> Mapping[str, Image] | None:
    return reply.view.images if reply.view else None


def _measured(reply: RolloutReply) -> Mapping[str, float]:
    assert reply.proprio is not None, "a tabletop has an arm"
    return dict(zip(reply.proprio_names, reply.proprio.tolist(), strict=True))


def _observation(reply: RolloutReply, settings: DemonstrationSettings) -> Observation:
    rendered = _images(reply) or {}
    sides = {name: side for name, side in settings.image_sides.items() if name in rendered}
    resized = {name: settings.resize(rendered[name], side, side) for name, side in sides.items()}
    return Observation(images=resized, proprio=reply.proprio)


def _step(
    trial: Trial,
    table_state: TableState,
    observation: Observation,
    label: Float[np.ndarray, " 7"],
    executed: Float[np.ndarray, " 7"],
    expert_drove: bool,
) -> DemonstratedStep:
    return DemonstratedStep(
        observation=observation,
        environment_state=environment_state(trial.task, table_state),
        label=label,
        executed=executed,
        expert_drove=expert_drove,
    )
