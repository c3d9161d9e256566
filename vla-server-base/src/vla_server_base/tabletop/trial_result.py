"""The result of a trial: whether it succeeded, and which objects were lifted and moved."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vla_server_base.tabletop.tables import OBJECTS
from vla_server_base.tabletop.tasks import LIFTED_M
from vla_server_base.tabletop.trials import Trial

MOVED_M = 0.02
"""An object counts as moved once it was this far from its start."""


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """The result of one trial.

    `lifted` are the objects that rose by `LIFTED_M`, in the order in which they did; `moved` is the one that moved
    farthest, or None if no object moved. `predict_ms` is the median time that the policy took.
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


def trial_result(
    trial: Trial, reason: str, qpos: Float[np.ndarray, "moments nq"], predict_ms: list[float], duration_s: float
) -> TrialResult:
    """Compute the result of a trial from its states, of which the first is the start."""
    free = trial.table.objects(qpos)
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
