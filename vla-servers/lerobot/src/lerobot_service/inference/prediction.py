"""Predict the chunks of rows: preprocessor, history, seeded noise, policy, postprocessor."""

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from lerobot.utils.constants import ACTION, OBS_IMAGES, OBS_STATE
from torch import Tensor

from lerobot_service.checkpoints.checkpoint import LoadedPolicy
from lerobot_service.inference.continuation import continuation
from lerobot_service.inference.noise import SeededNoise
from lerobot_service.inference.rows import Row, features_of

Chunks = Float[np.ndarray, "rows horizon action_dim"]


class ChunkPrediction:
    """Predicts chunks with a LeRobot policy, which keeps nothing from one prediction to the next.

    `num_draws` says how often the last prediction drew noise.
    """

    def __init__(self, loaded: LoadedPolicy):
        self._policy, self._config = loaded.policy, loaded.config
        self._pre, self._post = loaded.preprocessor, loaded.postprocessor
        self.num_draws = 0

    def predict(self, rows: Sequence[Row]) -> Chunks:
        """Return the chunks of rows that can share a batch, in the units of the data that the policy learned from."""
        self._policy.reset()
        batch = self._with_history(rows) if self._queues else self._preprocess(rows, self._timesteps)
        continued = continuation(rows[0].previous, batch.pop(ACTION, None))
        with torch.no_grad(), SeededNoise([row.generator for row in rows]) as noise:
            chunk = self._policy.predict_action_chunk(batch, **continued)
        self.num_draws = noise.num_draws
        return np.array(self._post(chunk).to(torch.float32).cpu().numpy())

    @property
    def _timesteps(self) -> int | slice:
        """The whole window, with an axis for time, where a policy sees more than the last observation."""
        return -1 if self._config.n_obs_steps == 1 else slice(None)

    @property
    def _queues(self) -> dict[str, deque[Tensor]]:
        """The queues of observations that the policy predicts from, which its `select_action` would fill."""
        queues = vars(self._policy).get("_queues", {})
        return {key: queue for key, queue in queues.items() if key != ACTION}

    def _with_history(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Fill the queues of a policy with the rows' windows, and return the batch of the last timestep."""
        batch: dict[str, Any] = {}
        for timestep in range(self._config.n_obs_steps):
            batch = self._preprocess(rows, timestep)
            if self._config.image_features:
                batch[OBS_IMAGES] = torch.stack([batch[key] for key in self._config.image_features], dim=-4)
            for key, queue in self._queues.items():
                queue.append(batch[key])
        return batch

    def _preprocess(self, rows: Sequence[Row], timesteps: int | slice) -> dict[str, Any]:
        features = features_of(rows, timesteps)
        # A policy without a state among its features may still read its batch's (ACT reads its device).
        if self._config.robot_state_feature is None:
            features[OBS_STATE] = torch.zeros(len(rows), 0)
        if rows[0].previous is not None:
            previous = [row.previous.actions for row in rows if row.previous is not None]
            features[ACTION] = torch.from_numpy(np.stack(previous).astype(np.float32))
        batch = self._pre({**features, "task": [row.text for row in rows]})
        return {key: value for key, value in batch.items() if key != ACTION or value is not None}
