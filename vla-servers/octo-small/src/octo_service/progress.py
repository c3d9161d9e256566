"""Progress that a person can watch, or find in a log."""

import sys
import time

LINE_EVERY_S = 30.0
"""Between two lines of progress where there is no terminal to write over."""


class Progress:
    """How far trials are, on standard error: one line that is written over, or one now and then in a log."""

    def __init__(self, what: str, num_trials: int):
        self._what, self._num_trials = what, num_trials
        self._num_ended = self._num_done = 0
        self._started = time.monotonic()
        self._shown = -LINE_EVERY_S

    def show(self, success: bool) -> None:
        """Count one more trial."""
        self._num_ended += 1
        self._num_done += success
        is_last, is_terminal = self._num_ended == self._num_trials, sys.stderr.isatty()
        now = time.monotonic()
        if not (is_last or is_terminal or now - self._shown > LINE_EVERY_S):
            return
        self._shown = now
        each = (now - self._started) / self._num_ended
        left = each * (self._num_trials - self._num_ended)
        line = (
            f"{self._what}: {self._num_ended} of {self._num_trials}, {self._num_done / self._num_ended:.1%} done"
            f"; {each:.1f} s each, {left / 60:.0f} min left"
        )
        if is_terminal:
            print(f"\r{line}\x1b[K", end="\n" if is_last else "", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)
