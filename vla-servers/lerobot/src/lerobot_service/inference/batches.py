"""Batches of requests as rows, and rows' chunks as those of requests."""

import itertools
from collections.abc import Sequence

import numpy as np

from lerobot_service.inference.prediction import ChunkPrediction
from lerobot_service.inference.rows import Row, rows_of
from vla_server_base.contract import NormalizedChunks, PolicyInput


class BatchPrediction:
    """Predicts the chunks of requests: rows one by one, or `together` those that can share a batch.

    The samples of a policy that draws no noise (`deterministic`) are one row.
    """

    def __init__(self, prediction: ChunkPrediction, *, together: bool, deterministic: bool):
        self._prediction = prediction
        self.together = together
        self._deterministic = deterministic

    def of(self, batch: Sequence[PolicyInput]) -> list[NormalizedChunks]:
        """Return the chunks of each request, one a sample."""
        rows = [rows_of(each, 1 if self._deterministic else each.num_samples) for each in batch]
        chunks = iter(self._predict([*itertools.chain.from_iterable(rows)]))
        samples = [np.stack([next(chunks) for _ in own]) for own in rows]
        return [
            np.broadcast_to(each, (request.num_samples, *each.shape[1:])).copy() if self._deterministic else each
            for each, request in zip(samples, batch, strict=True)
        ]

    def _predict(self, rows: Sequence[Row]) -> list[np.ndarray]:
        if not self.together:
            return [self._prediction.predict([row])[0] for row in rows]
        groups: dict[tuple, list[int]] = {}
        for index, row in enumerate(rows):
            groups.setdefault(row.shares_a_batch_with, []).append(index)
        chunks: dict[int, np.ndarray] = {}
        for group in groups.values():
            chunks.update(zip(group, self._prediction.predict([rows[index] for index in group]), strict=True))
        return [chunks[index] for index in range(len(rows))]
