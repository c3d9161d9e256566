"""Try a policy once it is loaded: what it claims of itself is true, or it is not served."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from lerobot_service.inference.noise import UnsplittableDraw
from lerobot_service.inference.prediction import ChunkPrediction, Chunks
from lerobot_service.inference.rows import Row
from vla_server_base.contract import PreviousChunk
from vla_server_base.errors import ModelUnavailable

# Of the largest number of a chunk: by so much a row may differ from what it gets alone, or a GPU from itself.
TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class TriedPolicy:
    """What came out: the actions in a chunk, the numbers of an action, the draws of noise, and `batch_equals_alone`."""

    horizon: int
    action_dim: int
    num_draws: int
    batch_equals_alone: bool


def try_policy(prediction: ChunkPrediction, rows: Sequence[Row], *, exact: bool, together: bool) -> TriedPolicy:
    """Predict each row twice, and if `together`, all in one batch.

    Raises:
        ModelUnavailable: the policy cannot predict, or its chunk does not follow from what it saw and from the seed.
    """
    before = _global_noise()
    first, again = (np.concatenate([_predict(prediction, [row]) for row in rows]) for _ in range(2))
    num_draws = prediction.num_draws
    if _global_noise() != before:
        raise ModelUnavailable(
            "this policy draws noise from a global generator, so that no seed repeats its answer",
            hint="switch off what draws it (dropout, a random crop) in the checkpoint's config.json",
        )
    if not (np.array_equal(first, again, equal_nan=True) if exact else _close(first, again)):
        raise ModelUnavailable(
            "this policy gives two answers to the same observation and seed: it keeps a state between predictions",
            hint="such a policy cannot be shared by robots; run it with LeRobot's own lerobot-rollout",
        )
    return TriedPolicy(
        horizon=first.shape[1],
        action_dim=first.shape[2],
        num_draws=num_draws,
        batch_equals_alone=together and _splits(prediction, rows, first),
    )


def try_continuation(prediction: ChunkPrediction, row: Row) -> str:
    """Let a chunk continue the one of another observation; return what is wrong with it, "" if nothing is.

    Guidance leaves a small rest of the distance that two free chunks have.
    """
    other = other_noise(row)
    old, free = (prediction.predict([each])[0] for each in (row, other))
    num_frozen = max(1, len(old) // 4)
    previous = PreviousChunk(actions=old, inference_delay=num_frozen, execution_horizon=max(1, len(old) // 2))
    try:
        guided = prediction.predict([replace(other, previous=previous)])[0]
    except Exception as error:  # a policy may raise anything
        return f"{type(error).__name__}: {str(error)[:300]}"
    distance, allowed = (float(np.abs(each - old)[:num_frozen].max()) for each in (guided, free))
    return "" if distance <= 0.2 * allowed + TOLERANCE * np.abs(old).max() else "its chunks do not meet the last one's"


def other_noise(row: Row) -> Row:
    """Return a row that saw what another saw upside down, and has other noise."""
    flipped = {name: array[:, :, ::-1].copy() for name, array in row.observation.items()}
    return replace(row, observation=flipped, seed=row.seed + 1)


def _predict(prediction: ChunkPrediction, rows: Sequence[Row]) -> Chunks:
    try:
        return prediction.predict(rows)
    except Exception as error:  # a policy may raise anything
        raise ModelUnavailable(
            f"the policy cannot predict: {type(error).__name__}: {str(error)[:500]}",
            hint="if LeRobot's own lerobot-rollout runs this checkpoint, it is our fault: please report it",
        ) from error


def _splits(prediction: ChunkPrediction, rows: Sequence[Row], alone: Chunks) -> bool:
    try:
        return _close(prediction.predict(rows), alone)
    except UnsplittableDraw:
        return False


def _close(one: Chunks, other: Chunks) -> bool:
    scale = float(np.abs(other).max(initial=1e-6))
    return np.allclose(one, other, rtol=0, atol=TOLERANCE * scale, equal_nan=True)


def _global_noise() -> tuple:
    """Return the states of the generators that a policy might draw from past the seeded one."""
    on_gpu = tuple(state.numpy().tobytes() for state in torch.cuda.get_rng_state_all()) if _uses_cuda() else ()
    numpy_state = np.random.get_state(legacy=False)["state"]
    return torch.get_rng_state().numpy().tobytes(), on_gpu, numpy_state["key"].tobytes(), numpy_state["pos"]


def _uses_cuda() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_initialized()
