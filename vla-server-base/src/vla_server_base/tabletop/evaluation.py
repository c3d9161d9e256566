"""How well a policy does the suite's tasks: trials in closed loop, whether each succeeded, and what was moved.

>>> async for played in evaluate(LocalEpisodes(policy, pool), trials, EpisodeSettings(max_steps=75)):
...     print(played.result)
"""

import asyncio
import base64
import time
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float

from vla_server_base.contract import Image
from vla_server_base.episodes.events import EpisodeEnd, EpisodeStart, EpisodeStep
from vla_server_base.episodes.interfaces import EpisodePolicy, World
from vla_server_base.episodes.loop import play
from vla_server_base.episodes.policies import HttpPolicy
from vla_server_base.episodes.recording import animated_webp
from vla_server_base.episodes.settings import EpisodeSettings
from vla_server_base.scenes.messages import RenderedView
from vla_server_base.schemas.success import success_to_body
from vla_server_base.tabletop.splits import Split
from vla_server_base.tabletop.tables import NUM_FINGERS, NUM_FREE, OBJECTS
from vla_server_base.tabletop.tasks import LIFTED_M, TASKS
from vla_server_base.tabletop.trials import Trial, draw_trial

MOVED_M = 0.02
"""An object that never was farther from where it had lain was not moved."""


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """What became of one trial.

    `lifted` are the objects that were `LIFTED_M` higher than at the start, in that order; `moved` is the one that came
    farthest from where it had lain, None where none was moved. `predict_ms` is the median wait for the policy.
    """

    task: str
    seed: int
    instruction: str
    success: bool
    reason: str
    num_steps: int
    lifted: tuple[str, ...]
    moved: str | None
    predict_ms: float
    duration_s: float


@dataclass(frozen=True, kw_only=True)
class PlayedTrial:
    """A trial's result and, where pictures were asked for and it failed, an animated WebP of it."""

    trial: Trial
    result: TrialResult
    video: bytes | None


class Episodes(Protocol):
    """Where trials are played."""

    async def play(self, trial: Trial, settings: EpisodeSettings) -> PlayedTrial:
        """Play one trial; its seed, start and success stand in for those of `settings`."""
        ...


async def evaluate(
    episodes: Episodes, trials: Iterable[Trial], settings: EpisodeSettings, *, num_at_once: int = 2
) -> AsyncGenerator[PlayedTrial, None]:
    """Play trials, so many at once, and yield each when it has ended.

    A result depends on nothing but the policy, the trial and `settings`. With `with_images`, failures have a video.

    Raises:
        SceneError, RequestError, Unavailable: what the policy or the world say; what was played before is not lost.
    """
    waiting, playing = iter(trials), set[asyncio.Task[PlayedTrial]]()
    try:
        while True:
            for trial in islice(waiting, num_at_once - len(playing)):
                playing.add(asyncio.create_task(episodes.play(trial, settings)))
            if not playing:
                return
            ended, _ = await asyncio.wait(playing, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                playing.discard(task)
                yield task.result()
    finally:
        for task in playing:
            task.cancel()
        await asyncio.gather(*playing, return_exceptions=True)


def listening_trials(seeds: Iterable[int], *, robot: str = "panda", split: Split = "train") -> Iterator[Trial]:
    """Draw scenes in each of which every object is asked for in turn: does what is said decide what is lifted?"""
    for seed in seeds:
        drawn = [draw_trial(TASKS[f"pick_up_{name}"], seed, robot=robot, split=split) for name in OBJECTS]
        for told in drawn:
            yield replace(drawn[0], task=told.task, instruction=told.instruction)


@dataclass(frozen=True, kw_only=True)
class LocalEpisodes:
    """Trials simulated here; only the policy's own cameras are drawn."""

    policy: EpisodePolicy
    world: World

    async def play(self, trial: Trial, settings: EpisodeSettings) -> PlayedTrial:
        """Play one trial.

        Raises:
            SceneError, Unavailable: see `episodes.play`.
        """
        started = time.perf_counter()
        scene, task, drawn = trial.episode()
        settings = replace(settings, seed=drawn.seed, state=drawn.state, success=drawn.success)
        qpos, predict_ms, frames, end = [], [], list[Image](), None
        async for event in play(self.policy, self.world, scene, task, settings):
            if isinstance(event, EpisodeEnd):
                end = event
                continue
            if isinstance(event, EpisodeStep):
                predict_ms.append(event.timing.predict_ms)
            qpos.append(event.state.qpos if isinstance(event, EpisodeStart) else event.result.state.qpos)
            if settings.with_images and event.view is not None:
                frames.append(_side_by_side(event.view))
        assert end is not None, "an episode ends"
        is_shown = settings.with_images and not end.success
        return PlayedTrial(
            trial=trial,
            result=_result(trial, end.reason, np.array(qpos), predict_ms, time.perf_counter() - started),
            video=await asyncio.to_thread(animated_webp, frames, settings.control.rate_hz) if is_shown else None,
        )


@dataclass(frozen=True, kw_only=True)
class RemoteEpisodes:
    """Trials played whole by a server (`POST /execute`); a video shows its policy's first camera.

    `view`, `guard`, `bounds`, `robot` and `control` are as the server has them.
    """

    server: HttpPolicy

    async def play(self, trial: Trial, settings: EpisodeSettings) -> PlayedTrial:
        """Play one trial.

        Raises:
            Unavailable, RequestError: what the server says.
        """
        started = time.perf_counter()
        reply = await self.server.execute(_request(trial, settings))
        qpos = [state["qpos"] for state in (reply["initial_state"], *reply["states"])]
        predict_ms = [step["timing_ms"]["predict"] for step in reply["steps"]]
        video = None if reply["success"] else reply["recordings"].get("webp")
        return PlayedTrial(
            trial=trial,
            result=_result(trial, reply["reason"], np.array(qpos), predict_ms, time.perf_counter() - started),
            video=base64.b64decode(video) if video else None,
        )


def _request(trial: Trial, settings: EpisodeSettings) -> Mapping[str, Any]:
    start = {"qpos": trial.start.qpos, "qvel": trial.start.qvel, "ctrl": trial.start.ctrl}
    return {
        "instruction": trial.instruction,
        "xml_string": trial.scene.xml,
        "state": {name: numbers.tolist() for name, numbers in start.items() if numbers is not None},
        "seed": trial.seed,
        "success": success_to_body(trial.task.success(trial.table)),
        "max_steps": settings.max_steps,
        "execution_horizon": settings.execution_horizon,
        "ensemble_weight": settings.ensemble_weight,
        "latency_ms": 1e3 * settings.latency_s,
        "record": ["webp"] if settings.with_images else [],
    }


def _result(
    trial: Trial, reason: str, qpos: Float[np.ndarray, "moments nq"], predict_ms: list[float], duration_s: float
) -> TrialResult:
    """Read from the states, the first of them the start, what was lifted and moved."""
    free = qpos[:, trial.table.num_joints + NUM_FINGERS :].reshape(len(qpos), len(OBJECTS), NUM_FREE)
    shifts = free[..., :3] - free[0, :, :3]
    is_lifted = shifts[..., 2] >= LIFTED_M
    farthest = np.linalg.norm(shifts, axis=-1).max(axis=0)
    in_order = sorted(np.flatnonzero(is_lifted.any(axis=0)), key=lambda index: is_lifted[:, index].argmax())
    waits = [wait for wait in predict_ms if wait]
    return TrialResult(
        task=trial.task.name,
        seed=trial.seed,
        instruction=trial.instruction,
        success=reason == "success",
        reason=reason,
        num_steps=len(qpos) - 1,
        lifted=tuple(OBJECTS[index] for index in in_order),
        moved=OBJECTS[farthest.argmax()] if farthest.max() >= MOVED_M else None,
        predict_ms=round(float(np.median(waits)), 3) if waits else 0.0,
        duration_s=round(duration_s, 3),
    )


def _side_by_side(pictures: RenderedView) -> Image:
    return np.concatenate(list(pictures.images.values()), axis=1)
