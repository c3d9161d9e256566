"""The actions of the newest chunk, from its rows at the policy's rate to actions at the robot's."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Optional

import numpy as np

from vla_client.action_kinds import Kind


class ChunkPlayback:
    """Plays a chunk's rows, of which one is due per step of the policy; `tick_steps` is how long a tick is in steps.

    A position is a time in steps since the episode began: row i of the answer to step s is due at position s + i.
    """

    def __init__(self, kinds: Sequence[Kind], tick_steps: Fraction):
        self._is_delta = np.array([kind == "delta" for kind in kinds])
        self._is_switch = np.array([kind == "switch" for kind in kinds])
        self._stands_still_at_zero = np.array([kind in ("delta", "velocity") for kind in kinds])
        self._tick_steps = tick_steps
        self._rows: Optional[np.ndarray] = None
        self._begin = 0

    def put(self, step: int, rows: np.ndarray, now: int) -> int:
        """Replace the chunk by the answer to `step`, which came at step `now`; return how many of its rows are stale.

        An answer of which no row is left replaces nothing.
        """
        num_stale = min(now - step, len(rows))
        if num_stale < len(rows):
            self._rows, self._begin = np.array(rows), step
        return num_stale

    def num_left(self, step: int) -> int:
        """Return how many rows are left from `step` on."""
        return 0 if self._rows is None else max(0, self._begin + len(self._rows) - step)

    def action_at(self, position: Fraction) -> Optional[np.ndarray]:
        """Return the action of the tick that begins at a position, (action_dim,); None if no row is left for it."""
        step = int(position)
        if self._rows is None or not self.num_left(step):
            return None
        first = self._row(step)
        between = first + float(position - step) * (self._row(step + 1) - first)
        action = np.where(self._is_switch, first, between)
        return np.where(self._is_delta, self._motion(position), action)

    def still(self, last_action: np.ndarray) -> np.ndarray:
        """Return the action that holds still after `last_action`: the same targets, no motion."""
        return np.where(self._stands_still_at_zero, 0.0, last_action)

    def clear(self) -> None:
        """Forget the chunk: a new episode begins."""
        self._rows = None

    def _row(self, step: int) -> np.ndarray:
        """Return the row that is due at a step; the last one stays due."""
        assert self._rows is not None, "a chunk was put"
        return self._rows[min(step - self._begin, len(self._rows) - 1)]

    def _motion(self, position: Fraction) -> np.ndarray:
        """Return the motion from a position to the next tick's, which may lie in the next row."""
        step, end = int(position), position + self._tick_steps
        in_this_row = min(end, Fraction(step + 1)) - position
        in_next_row = self._tick_steps - in_this_row if self.num_left(step + 1) else 0
        return float(in_this_row) * self._row(step) + float(in_next_row) * self._row(step + 1)
