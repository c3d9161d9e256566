"""The closed loop of any policy in any scene with an arm: observe, predict, control, simulate, judge.

>>> async for event in play(policy, pool, scene, Task(instruction="lift the red cube"), EpisodeSettings(seed=7)):
...     print(event)
"""

import time
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Float

from vla_server_base.contract import Observation, PolicySpec, Task
from vla_server_base.episodes.chunk_plan import ChunkPlan
from vla_server_base.episodes.events import (
    EndReason,
    EpisodeChange,
    EpisodeEnd,
    EpisodeEvent,
    EpisodeStart,
    EpisodeStep,
    StepTiming,
)
from vla_server_base.episodes.interfaces import EpisodePolicy, World
from vla_server_base.episodes.prediction import EpisodePrediction, Predictor, ms_since
from vla_server_base.episodes.settings import Change, Criterion, EpisodeSettings
from vla_server_base.episodes.simulation import EpisodeSimulation
from vla_server_base.scenes.messages import (
    RolloutReply,
    RolloutStep,
    Scene,
    choose_proprio,
    policy_view,
)
from vla_server_base.sessions.action_chunking import ObservationWindow


async def play(
    policy: EpisodePolicy, world: World, scene: Scene, task: Task, settings: EpisodeSettings
) -> AsyncGenerator[EpisodeEvent, None]:
    """Run one episode: an EpisodeStart, an EpisodeStep for each action, an EpisodeEnd; EpisodeChanges between them.

    The same policy, scene, task and settings give the same episode, whatever else runs on the server. To stop early,
    close the generator or cancel the task that awaits it.

    Raises:
        SceneError, UnknownName: the scene, its arm, or a named body or joint is invalid.
        RequestError: the policy requires proprio that this arm does not measure.
        EpisodeTooLong: it has used up `max_worker_s`.
        Unavailable: the policy or the workers cannot answer now.
    """
    episode = Episode(policy, world, scene, task, settings)
    yield await episode.start()
    while not episode.is_over:
        yield await episode.advance()


class Episode:
    """The state of one episode between two steps; `start` comes first, then `advance` until it `is_over`."""

    def __init__(self, policy: EpisodePolicy, world: World, scene: Scene, task: Task, settings: EpisodeSettings):
        self._policy, self._settings = policy, settings
        self._simulation = EpisodeSimulation(world, scene, settings)
        self.task = task
        self.num_steps = 0
        self.reason: EndReason | None = None
        self.has_succeeded = False
        self.changes: list[Change] = []
        """Those that have taken effect."""
        self._due = deque(sorted(settings.changes, key=lambda change: change.step))
        # A change may have the policy asked in the middle of a chunk, with a window that is up to date.
        self._renders_all = settings.with_images or bool(settings.changes)
        self._success = settings.success
        self._view = policy_view(policy.spec, settings.view)
        self._history = ObservationWindow(policy.window)
        self._started = time.perf_counter()
        self._plan = ChunkPlan(policy, settings)
        self._predictor = Predictor(self._plan, self._simulation, settings)

    @property
    def spec(self) -> PolicySpec:
        """What its policy takes and gives."""
        return self._policy.spec

    async def start(self) -> EpisodeStart:
        reply = await self._simulation.roll_out(self._success, start=self._settings.state, view=self._view)
        self._measures_at_start, self.state = reply.measures, reply.state
        self._proprio_choice = choose_proprio(self._policy.spec, reply.proprio_names)
        self._observe(reply)
        assert reply.names is not None, "a rollout from a SceneState names its parts"
        assert reply.robot is not None, "a controlled rollout has an arm"
        assert reply.base is not None, "a controlled rollout has an arm"
        assert reply.pose is not None, "a controlled rollout has an arm"
        assert reply.view is not None, "a view was asked for"
        return EpisodeStart(
            state=reply.state,
            pose=reply.pose,
            body_poses=reply.body_poses,
            criteria=self._criteria(reply.measures),
            names=reply.names,
            robot=reply.robot,
            base=reply.base,
            view=reply.view,
            cost=reply.cost,
            proprio=self._proprio_choice.of(reply.proprio),
            proprio_names=self._proprio_choice.names(reply.proprio_names),
            notes=self._proprio_choice.notes,
        )

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.reason is not None

    @property
    def num_changes(self) -> int:
        """How many changes have been made, or are still to be made."""
        return len(self.changes) + len(self._due)

    @property
    def outcome(self) -> Literal["success", "max_steps"] | None:
        """Why the episode ends now; None if it goes on."""
        if self.has_succeeded:
            return "success"
        return "max_steps" if self.num_steps == self._settings.max_steps else None

    async def advance(self) -> EpisodeChange | EpisodeStep | EpisodeEnd:
        """Return what comes next: the end, a change that is due, or a step."""
        if self.outcome is not None:
            return self.end(self.outcome)
        if self._due and self._due[0].step <= self.num_steps:
            return await self.change(self._due.popleft())
        return await self._step(self.num_steps)

    async def change(self, change: Change) -> EpisodeChange:
        """Change something before the next step; if it cannot all be changed, nothing is.

        Raises:
            UnknownName, SceneStateError: a body or a joint is not known, or has no free joint.
            EpisodeTooLong, Unavailable: see `play`.
        """
        change = replace(change, step=self.num_steps)
        success, measures_at_start, moved = self._success, self._measures_at_start, None
        if change.success is not None:
            success = change.success
            at_start = await self._simulation.roll_out(success, start=self._settings.state)
            measures_at_start = at_start.measures
        if change.bodies:
            moved = await self._simulation.roll_out(
                self._success, start=self._snapshot, body_poses=change.bodies, view=self._view
            )
        # Nothing can fail from here on.
        self._success, self._measures_at_start = success, measures_at_start
        if change.instruction is not None:
            self.task = Task(instruction=change.instruction)
            self._plan.forget()
        proprio = moved and self._proprio_choice.of(moved.proprio)
        if moved is not None:
            assert moved.view is not None, "a view was asked for"
            self._snapshot, self.state = moved.end, moved.state
            self._window = self._history.replace_last(Observation(images=moved.view.images, proprio=proprio))
        self.changes.append(change)
        return EpisodeChange(
            index=self.num_steps,
            change=change,
            state=moved and moved.state,
            body_poses=moved and moved.body_poses,
            view=moved and moved.view,
            proprio=proprio,
        )

    async def _step(self, index: int) -> EpisodeStep | EpisodeEnd:
        started, prediction = time.perf_counter(), EpisodePrediction()
        if not self._plan.num_queued:
            prediction = await self._predictor.predict(
                self._window, self.task, index, start=self._snapshot, success=self._success
            )
            if self._settings.guard == "reject" and any(step.violations for step in prediction.preview or ()):
                return self.end("rejected", rejected=prediction.preview)
        action, reply = await self._execute(prediction.hold_s)
        criteria = self._criteria(reply.steps[0].measures)
        self.num_steps, self.state = index + 1, reply.steps[0].state
        self.has_succeeded = bool(criteria) and all(criterion.holds for criterion in criteria)
        return EpisodeStep(
            index=index,
            action=action,
            result=reply.steps[0],
            success=self.has_succeeded,
            criteria=criteria,
            chunk=prediction.chunk,
            preview=prediction.preview,
            view=reply.view,
            proprio=self._proprio_choice.of(reply.proprio),
            timing=StepTiming(
                predict_ms=prediction.predict_ms,
                preview_ms=prediction.preview_ms,
                physics_ms=reply.cost.physics_ms,
                render_ms=reply.cost.render_ms,
                total_ms=ms_since(started),
            ),
        )

    async def _execute(self, hold_s: float) -> tuple[Float[np.ndarray, " 7"], RolloutReply]:
        """Execute the next action of the plan after `hold_s`, and observe the result."""
        action = self._plan.next_action()
        is_in_window = self._plan.num_queued < self._policy.window
        reply = await self._simulation.roll_out(
            self._success,
            start=self._snapshot,
            actions=action[None],
            hold_s=hold_s,
            clamp=self._settings.guard == "clamp",
            view=self._view if is_in_window or self._renders_all else None,
        )
        self._observe(reply)
        return action, reply

    def end(self, reason: EndReason, rejected: tuple[RolloutStep, ...] | None = None) -> EpisodeEnd:
        """End the episode."""
        self.reason = reason
        return EpisodeEnd(
            reason=reason,
            num_steps=self.num_steps,
            success=self.success,
            duration_ms=ms_since(self._started),
            rejected=rejected,
        )

    @property
    def success(self) -> bool | None:
        """Whether all predicates hold; None where there are none."""
        return self.has_succeeded if self._success else None

    def _observe(self, reply: RolloutReply) -> None:
        self._snapshot = reply.end
        if reply.view is not None:
            proprio = self._proprio_choice.of(reply.proprio)
            self._window = self._history.append(Observation(images=reply.view.images, proprio=proprio))

    def _criteria(self, measures: tuple[float, ...]) -> tuple[Criterion, ...]:
        triples = zip(self._success, measures, self._measures_at_start, strict=True)
        return tuple(predicate.judge(value, start) for predicate, value, start in triples)
