"""Closed-loop episodes: see, predict, control, advance the physics, judge. Any policy, any scene with an arm.

>>> async for event in play(policy, pool, scene, Task(instruction="lift the red cube"), EpisodeSettings(seed=7)):
...     print(event)
"""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from vla_server_base.contract import Observation, Task, Window
from vla_server_base.errors import EpisodeTooLong
from vla_server_base.scenes.messages import (
    Bounds,
    ControlSettings,
    Cost,
    Measure,
    Pose,
    RenderedView,
    RolloutReply,
    RolloutRequest,
    RolloutStep,
    Scene,
    SceneNames,
    SceneState,
    SimulationState,
    Snapshot,
    View,
)
from vla_server_base.scenes.robots import RobotDescription
from vla_server_base.sessions.action_chunking import ActionPlan, ObservationWindow, RecedingHorizon, TemporalEnsemble

GuardMode = Literal["off", "warn", "clamp", "reject"]


@runtime_checkable
class Policy(Protocol):
    """Windows of observations in, un-normalized chunks out; policies.py has those there are."""

    @property
    def window(self) -> int:
        """How many observations it attends to."""
        ...

    @property
    def cameras(self) -> tuple[str, ...]:
        """Which cameras it looks through, the one it cannot do without first."""
        ...

    async def predict(self, window: Window, task: Task, seed: int, step: int) -> Float[np.ndarray, "horizon 7"]:
        """Return the next actions: dx, dy, dz [m], droll, dpitch, dyaw [rad], gripper (1 open, 0 closed)."""
        ...


@runtime_checkable
class World(Protocol):
    """What simulates: a ScenePool."""

    async def roll_out(self, scene: Scene, request: RolloutRequest) -> RolloutReply:
        """Go on with a scene's simulation."""
        ...


@dataclass(frozen=True, kw_only=True)
class Predicate:
    """A part of success: a measure that lies from `low` to `high`, or has changed by that much `since_start`."""

    measure: Measure
    low: float = -np.inf
    high: float = np.inf
    since_start: bool = False

    def holds(self, value: float, at_start: float) -> bool:
        """Say whether the measure satisfies it."""
        return self.low <= value - at_start * self.since_start <= self.high


@dataclass(frozen=True, kw_only=True)
class EpisodeSettings:
    """How an episode runs.

    The policy is asked again after `execution_horizon` actions of a chunk, or at every step where
    `ensemble_weight` is given (`TemporalEnsemble`). While it thinks, `latency_s` of simulated time pass in which
    the arm holds what it was last told. The episode ends when all of `success` hold at once, when `guard`
    rejects a chunk, or after `max_steps` actions. With a guard or `preview`, each chunk is rolled out before its
    first action is. It is seen by the policy's own cameras, whatever others `view` names; `with_pictures` has every
    step drawn, not only those that will be in the policy's window when it is asked again. `max_worker_s` bounds the
    workers' time, all steps together.
    """

    max_steps: int = 75
    max_worker_s: float = np.inf
    execution_horizon: int = 1
    ensemble_weight: float | None = None
    seed: int = 0
    latency_s: float = 0.0
    success: tuple[Predicate, ...] = ()
    guard: GuardMode = "off"
    preview: bool = False
    bounds: Bounds = field(default_factory=Bounds)
    robot: str | RobotDescription | None = None
    control: ControlSettings = field(default_factory=ControlSettings)
    state: SceneState = field(default_factory=SceneState)
    view: View = field(default_factory=View)
    with_pictures: bool = False


@dataclass(frozen=True, kw_only=True)
class EpisodeStart:
    """The scene before the first action."""

    state: SimulationState
    pose: Pose
    names: SceneNames
    robot: RobotDescription
    pictures: RenderedView
    cost: Cost


@dataclass(frozen=True, kw_only=True)
class StepTiming:
    """Milliseconds of one step; `predict_ms` and `preview_ms` are 0 where a chunk was still being executed."""

    predict_ms: float
    preview_ms: float
    physics_ms: float
    render_ms: float
    total_ms: float


@dataclass(frozen=True, kw_only=True)
class EpisodeStep:
    """One action, as the policy gave it, and what came of it.

    `preview` is what the chunk was predicted to do, where the policy was asked at this step.
    """

    index: int
    action: Float[np.ndarray, " 7"]
    result: RolloutStep
    success: bool
    preview: tuple[RolloutStep, ...] | None
    pictures: RenderedView | None
    timing: StepTiming


@dataclass(frozen=True, kw_only=True)
class EpisodeEnd:
    """Why the episode ended; `rejected` holds the preview of the chunk that the guard did not let out."""

    reason: Literal["success", "max_steps", "rejected"]
    num_steps: int
    success: bool | None
    duration_ms: float
    rejected: tuple[RolloutStep, ...] | None = None


EpisodeEvent = EpisodeStart | EpisodeStep | EpisodeEnd


async def play(
    policy: Policy, world: World, scene: Scene, task: Task, settings: EpisodeSettings
) -> AsyncIterator[EpisodeEvent]:
    """Run one episode: an EpisodeStart, an EpisodeStep for each action, an EpisodeEnd.

    The same policy, scene, task and settings give the same episode, whatever else is going on. To stop early,
    close the generator or cancel whoever awaits it.

    Raises:
        SceneError, UnknownName: what the scene, its arm, or the named bodies and joints do not allow.
        EpisodeTooLong: it has used up `max_worker_s`.
        Unavailable: the policy or the workers cannot answer now.
    """
    loop = _Loop(policy, world, scene, task, settings)
    yield await loop.start()
    for index in range(settings.max_steps):
        step = await loop.step(index)
        if isinstance(step, EpisodeEnd):
            yield step
            return
        yield step
        if step.success:
            yield loop.end("success", index + 1)
            return
    yield loop.end("max_steps", settings.max_steps)


class _Loop:
    """The state of one episode between two steps."""

    def __init__(self, policy: Policy, world: World, scene: Scene, task: Task, settings: EpisodeSettings):
        self._policy, self._world, self._scene, self._task, self._settings = policy, world, scene, task, settings
        chosen = settings.view.cameras
        self._view = replace(settings.view, cameras={name: chosen.get(name) for name in policy.cameras})
        self._history = ObservationWindow(policy.window)
        self._started = time.perf_counter()
        self._plan: ActionPlan | None = None
        self._worker_ms = 0.0

    async def start(self) -> EpisodeStart:
        reply = await self._roll_out(start=self._settings.state, view=self._view)
        self._measures_at_start = reply.measures
        self._take_in(reply)
        assert reply.names is not None, "a rollout from a SceneState names its parts"
        assert reply.robot is not None, "a controlled rollout has an arm"
        assert reply.pose is not None, "a controlled rollout has an arm"
        assert reply.view is not None, "a view was asked for"
        return EpisodeStart(
            state=reply.state,
            pose=reply.pose,
            names=reply.names,
            robot=reply.robot,
            pictures=reply.view,
            cost=reply.cost,
        )

    async def step(self, index: int) -> EpisodeStep | EpisodeEnd:
        started = time.perf_counter()
        settings, preview, predict_ms, preview_ms = self._settings, None, 0.0, 0.0
        asks = self._plan is None or not self._plan.num_queued
        if asks:
            chunk = await self._policy.predict(self._window, self._task, settings.seed, index)
            predict_ms = 1e3 * (time.perf_counter() - started)
            if settings.preview or settings.guard != "off":
                preview = await self._preview(chunk)
                preview_ms = 1e3 * (time.perf_counter() - started) - predict_ms
                if settings.guard == "reject" and any(step.violations for step in preview):
                    return self.end("rejected", index, rejected=preview)
            self._plan = self._plan or _plan(settings, len(chunk))
            self._plan.put(chunk)
        assert self._plan is not None, "the first step asks for a chunk"
        action = self._plan.take()
        is_seen = self._plan.num_queued < self._policy.window
        reply = await self._roll_out(
            start=self._snapshot,
            actions=action[None],
            hold_s=settings.latency_s if asks else 0.0,
            clamp=settings.guard == "clamp",
            view=self._view if is_seen or settings.with_pictures else None,
        )
        self._take_in(reply)
        result = reply.steps[0]
        return EpisodeStep(
            index=index,
            action=action,
            result=result,
            success=self._succeeds(result.measures),
            preview=preview,
            pictures=reply.view,
            timing=StepTiming(
                predict_ms=predict_ms,
                preview_ms=preview_ms,
                physics_ms=reply.cost.physics_ms,
                render_ms=reply.cost.render_ms,
                total_ms=1e3 * (time.perf_counter() - started),
            ),
        )

    def end(
        self,
        reason: Literal["success", "max_steps", "rejected"],
        num_steps: int,
        rejected: tuple[RolloutStep, ...] | None = None,
    ) -> EpisodeEnd:
        return EpisodeEnd(
            reason=reason,
            num_steps=num_steps,
            success=reason == "success" if self._settings.success else None,
            duration_ms=1e3 * (time.perf_counter() - self._started),
            rejected=rejected,
        )

    async def _preview(self, chunk: Float[np.ndarray, "horizon 7"]) -> tuple[RolloutStep, ...]:
        reply = await self._roll_out(start=self._snapshot, actions=chunk, hold_s=self._settings.latency_s)
        return reply.steps

    async def _roll_out(self, *, start: SceneState | Snapshot, **rest: Any) -> RolloutReply:
        settings = self._settings
        request = RolloutRequest(
            start=start,
            robot=settings.robot,
            control=settings.control,
            bounds=settings.bounds,
            measures=tuple(predicate.measure for predicate in settings.success),
            **rest,
        )
        if self._worker_ms > settings.max_worker_s * 1e3:
            raise EpisodeTooLong(
                f"the episode has used up the {settings.max_worker_s:g} s of scene workers' time that one may take",
                hint="a scene that is cheaper to simulate and draw, or several episodes, each from the state that the"
                " last one reached; VLA_EPISODE_WORKER_S raises the limit",
            )
        reply = await self._world.roll_out(self._scene, request)
        self._worker_ms += reply.cost.compile_ms + reply.cost.physics_ms + reply.cost.render_ms
        return reply

    def _take_in(self, reply: RolloutReply) -> None:
        self._snapshot = reply.end
        if reply.view is not None:
            self._window = self._history.append(Observation(images=reply.view.images))

    def _succeeds(self, measures: tuple[float, ...]) -> bool:
        judged = zip(self._settings.success, measures, self._measures_at_start, strict=True)
        return bool(measures) and all(predicate.holds(value, start) for predicate, value, start in judged)


def _plan(settings: EpisodeSettings, horizon: int) -> ActionPlan:
    if settings.ensemble_weight is not None:
        return TemporalEnsemble(horizon, settings.ensemble_weight)
    return RecedingHorizon(settings.execution_horizon)
