"""The loss on episodes that are never trained on: the same samples and the same noise every time."""

import numpy as np
from jaxtyping import UInt32

from octo_service.training.batches import Batches
from octo_service.training.trainer import Trainer, TrainState


class Validation:
    """Measures a state on the first `num_batches` of some batches, without augmentation and without dropout."""

    def __init__(self, trainer: Trainer, batches: Batches, num_batches: int):
        self._trainer, self._batches, self._num_batches = trainer, batches, num_batches

    def __call__(self, state: TrainState) -> dict[str, float]:
        """Return the means of the loss and of what else the head measures."""
        measured = [
            self._trainer.measure(state, self._batches[number].arrays, _key(number))
            for number in range(self._num_batches)
        ]
        return {name: float(np.mean([float(metrics[name]) for metrics in measured])) for name in measured[0]}


def _key(number: int) -> UInt32[np.ndarray, "2"]:
    return np.array([1, number], np.uint32)
