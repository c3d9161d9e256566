"""What a policy answers in an episode: a chunk as it will be executed, what it would do, and how long that took."""

import time
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vla_server_base.contract import Task, Window
from vla_server_base.episodes.chunk_plan import ChunkPlan, PlannedChunk
from vla_server_base.episodes.settings import EpisodeSettings, Predicate
from vla_server_base.episodes.simulation import EpisodeSimulation
from vla_server_base.scenes.messages import RolloutStep, Snapshot


@dataclass(frozen=True, kw_only=True)
class EpisodePrediction:
    """The policy's chunk, what it would do, if requested, and how long the answers took."""

    chunk: Float[np.ndarray, "horizon 7"] | None = None
    hold_s: float = 0.0
    preview: tuple[RolloutStep, ...] | None = None
    predict_ms: float = 0.0
    preview_ms: float = 0.0


class Predictor:
    """Asks the policy for chunks, plans their actions, and previews them where the settings want it."""

    def __init__(self, plan: ChunkPlan, simulation: EpisodeSimulation, settings: EpisodeSettings):
        self._plan, self._simulation = plan, simulation
        self._wants_preview = settings.preview or settings.guard != "off"

    async def predict(
        self, window: Window, task: Task, index: int, *, start: Snapshot, success: tuple[Predicate, ...]
    ) -> EpisodePrediction:
        """Return the chunk of step `index`; a preview begins at `start` and measures what `success` asks for.

        Raises:
            EpisodeTooLong, Unavailable: see `play`.
        """
        started = time.perf_counter()
        planned = await self._plan.ask(window, task, index)
        predict_ms = ms_since(started)
        preview = await self._preview(planned, start, success) if self._wants_preview else None
        return EpisodePrediction(
            chunk=planned.actions,
            hold_s=planned.hold_s,
            preview=preview,
            predict_ms=predict_ms,
            preview_ms=ms_since(started) - predict_ms if self._wants_preview else 0.0,
        )

    async def _preview(
        self, planned: PlannedChunk, start: Snapshot, success: tuple[Predicate, ...]
    ) -> tuple[RolloutStep, ...]:
        reply = await self._simulation.roll_out(success, start=start, actions=planned.actions, hold_s=planned.hold_s)
        return reply.steps


def ms_since(started: float) -> float:
    """Return the milliseconds since `time.perf_counter()` was `started`."""
    return 1e3 * (time.perf_counter() - started)
