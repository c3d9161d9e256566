"""Has a server play whole trials, with `POST /execute`."""

import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vla_server_base.episodes.loop import EpisodeSettings
from vla_server_base.episodes.policies import HttpPolicy
from vla_server_base.schemas.success import success_to_body
from vla_server_base.tabletop.evaluation import PlayedTrial
from vla_server_base.tabletop.trial_result import trial_result
from vla_server_base.tabletop.trials import Trial


@dataclass(frozen=True, kw_only=True)
class RemoteEpisodes:
    """Has a server play whole trials (`POST /execute`); a video shows its policy's first camera.

    `cameras` are the tabletop's, by the policy's names; the server chooses the others, and has its own `view`, `guard`,
    `bounds`, `robot` and `control`.
    """

    server: HttpPolicy
    cameras: Mapping[str, str] = field(default_factory=dict)

    async def play(self, trial: Trial, settings: EpisodeSettings) -> PlayedTrial:
        """Play one trial.

        Raises:
            Unavailable, RequestError: from the server.
        """
        started = time.perf_counter()
        reply = await self.server.execute({**_request(trial, settings), "cameras": dict(self.cameras)})
        qpos = [state["qpos"] for state in (reply["initial_state"], *reply["states"])]
        predict_ms = [step["timing_ms"]["predict"] for step in reply["steps"]]
        video = None if reply["success"] else reply["recordings"].get("webp")
        return PlayedTrial(
            trial=trial,
            result=trial_result(trial, reply["reason"], np.array(qpos), predict_ms, time.perf_counter() - started),
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
        "execution": settings.execution,
        "execution_horizon": settings.execution_horizon,
        "ensemble_weight": settings.ensemble_weight,
        "latency_ms": 1e3 * settings.latency_s,
        "record": ["webp"] if settings.with_images else [],
    }
