"""Intervals: how often a run measures, saves and evaluates. They do not change what is learned."""

from dataclasses import dataclass

from vla_server_base.config import Count


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """Steps between two measurements, checkpoints or evaluations; each is also due after the last step."""

    log_every: Count = 100
    """Steps between two rows of metrics."""

    validate_every: Count = 1000
    """Steps between two measurements of the loss on held-out episodes."""

    validation_batches: Count = 4
    """Held-out batches in each measurement."""

    save_every: Count = 5000
    """Steps between two checkpoints; a killed run resumes from the last."""

    keep: Count = 3
    """How many checkpoints to keep."""

    evaluate_every: Count | None = None
    """Steps between two closed-loop evaluations on the tabletop suite; none by default."""
