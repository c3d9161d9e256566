"""Timetable: when a run measures, saves and plays episodes. None of it changes what is learned."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Timetable:
    """What is done how often; everything is also done after the last step."""

    log_every: int = 100
    """Steps between two lines of metrics."""

    validate_every: int = 1000
    """Steps between two measurements on the episodes that are kept for it."""

    validation_batches: int = 4
    """What is measured each time."""

    save_every: int = 5000
    """Steps between two checkpoints; a killed run goes on from the last."""

    keep: int = 3
    """Checkpoints that stay."""

    evaluate_every: int | None = None
    """Steps between two evaluations in closed loop on the tabletop suite; none by default."""
