"""Timetable: when a run measures, saves and plays episodes. None of it changes what is learned."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True)
class Timetable:
    """What is done how often; everything is also done after the last step."""

    log_every: Count = 100
    """Steps between two lines of metrics."""

    validate_every: Count = 1000
    """Steps between two measurements on the episodes that are kept for it."""

    validation_batches: Count = 4
    """What is measured each time."""

    save_every: Count = 5000
    """Steps between two checkpoints; a killed run goes on from the last."""

    keep: Count = 3
    """Checkpoints that stay."""

    evaluate_every: Count | None = None
    """Steps between two evaluations in closed loop on the tabletop suite; none by default."""
