"""Evaluates a policy on the suite's tasks: plays trials in closed loop and returns their results.

>>> async for played in evaluate(LocalEpisodes(policy, pool), trials, EpisodeSettings(max_steps=75)):
...     print(played.result)
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

import numpy as np
from jaxtyping import UInt8

from vla_server_base.contract import Image
from vla_server_base.episodes.loop import (
    EpisodeEnd,
    EpisodePolicy,
    EpisodeSettings,
    EpisodeStart,
    EpisodeStep,
    World,
    play,
)
from vla_server_base.episodes.recording import animated_webp
from vla_server_base.tabletop.splits import Split
from vla_server_base.tabletop.tables import OBJECTS
from vla_server_base.tabletop.tasks import TASKS
from vla_server_base.tabletop.trial_result import TrialResult, trial_result
from vla_server_base.tabletop.trials import Trial, draw_trial


@dataclass(frozen=True, kw_only=True)
class PlayedTrial:
    """A trial's result, and an animated WebP if it failed and the settings ask for images."""

    trial: Trial
    result: TrialResult
    video: bytes | None


class Episodes(Protocol):
    """Plays trials."""

    async def play(self, trial: Trial, settings: EpisodeSettings) -> PlayedTrial:
        """Play one trial; its seed, start and success replace those of `settings`."""
        ...


async def evaluate(
    episodes: Episodes, trials: Iterable[Trial], settings: EpisodeSettings, *, num_at_once: int = 2
) -> AsyncGenerator[PlayedTrial, None]:
    """Play trials, `num_at_once` concurrently, and yield each when it has ended.

    A result depends on the policy, the trial and `settings` only. With `with_images`, failures have a video.

    Raises:
        SceneError, RequestError, Unavailable: from the policy or the world.
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


def grounding_trials(seeds: Iterable[int], *, robot: str = "panda", split: Split = "train") -> Iterator[Trial]:
    """Draw scenes that are played once per object: does the named object decide which one is lifted?"""
    for seed in seeds:
        drawn = [draw_trial(TASKS[f"pick_up_{name}"], seed, robot=robot, split=split) for name in OBJECTS]
        for trial in drawn:
            yield replace(drawn[0], task=trial.task, instruction=trial.instruction)


@dataclass(frozen=True, kw_only=True)
class LocalEpisodes:
    """Plays trials in this process's simulation; only the policy's cameras are rendered."""

    policy: EpisodePolicy
    world: World

    async def play(self, trial: Trial, settings: EpisodeSettings) -> PlayedTrial:
        """Play one trial.

        Raises:
            SceneError, Unavailable: as `episodes.play`.
        """
        started = time.perf_counter()
        scene, task, of_trial = trial.episode()
        settings = replace(settings, seed=of_trial.seed, state=of_trial.state, success=of_trial.success)
        qpos, predict_ms, frames, end = [], [], list[Image](), None
        async for event in play(self.policy, self.world, scene, task, settings):
            if isinstance(event, EpisodeEnd):
                end = event
                continue
            if isinstance(event, EpisodeStep):
                predict_ms.append(event.timing.predict_ms)
                qpos.append(event.result.state.qpos)
            elif isinstance(event, EpisodeStart):
                qpos.append(event.state.qpos)
            if settings.with_images and event.view is not None:
                frames.append(_side_by_side(event.view.images))
        assert end is not None, "an episode ends"
        has_video = settings.with_images and not end.success
        return PlayedTrial(
            trial=trial,
            result=trial_result(trial, end.reason, np.array(qpos), predict_ms, time.perf_counter() - started),
            video=await asyncio.to_thread(animated_webp, frames, settings.control.rate_hz) if has_video else None,
        )


def _side_by_side(images: Mapping[str, Image]) -> UInt8[np.ndarray, "height all_widths 3"]:
    return np.concatenate(list(images.values()), axis=1)
