"""What counts as success of an episode, in a request."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
from pydantic import Field

from vla_server_base.episodes.settings import Predicate
from vla_server_base.scenes.messages import Measure, MeasureKind
from vla_server_base.schemas.base import Body
from vla_server_base.schemas.ranges import JointPosition, Measurement, Metres, Newtons


class Lifted(Body):
    """A body is higher than it was at the start."""

    kind: Literal["lifted"]
    body: str
    """The body's name."""
    height_m: Metres = 0.05
    """How much higher its origin is."""


class Near(Body):
    """Two bodies are near one another."""

    kind: Literal["near"]
    bodies: tuple[str, str]
    """The bodies' names."""
    distance_m: Metres = Field(default=0.05, gt=0.0)
    """The largest distance between their origins."""


class InContact(Body):
    """Two bodies touch."""

    kind: Literal["in_contact"]
    bodies: tuple[str, str]
    """The bodies' names."""
    force_n: Newtons = 1e-3
    """How hard they press on one another at least [N]."""


class JointRange(Body):
    """A joint stands within a range."""

    kind: Literal["joint_range"]
    joint: str
    """The joint's name."""
    low: JointPosition
    """Lowest position [rad or m]."""
    high: JointPosition
    """Highest position [rad or m]."""


NAMES_PER_MEASURE = {"height": 1, "along": 1, "joint": 1}
"""All others are between two."""


class Measured(Body):
    """Any measure lies within a range, or has changed by that much since the start."""

    kind: Literal["measured"]
    measure: MeasureKind
    """What is measured, as `Measure` has it."""
    names: tuple[str, ...] = Field(max_length=2, fail_fast=True)
    """The body, the two bodies or the joint."""
    direction: tuple[float, float, float] = (0.0, 0.0, 1.0)
    """For `along`: a unit vector in the world's frame."""
    low: Measurement | None = None
    """The least [m, N, rad]."""
    high: Measurement | None = None
    """The most [m, N, rad]."""
    since_start: bool = False
    """Whether the range is for the change since the start."""

    @pydantic.model_validator(mode="after")
    def _names_fit(self):
        count = NAMES_PER_MEASURE.get(self.measure, 2)
        if len(self.names) != count:
            raise ValueError(f"'{self.measure}': expected {count} names, got {len(self.names)}")
        return self


Success = Annotated[Lifted | Near | InContact | JointRange | Measured, Field(discriminator="kind")]


def success_to_body(predicates: Iterable[Predicate]) -> list[dict[str, Any]]:
    """Return predicates as `success` of a request takes them."""
    bodies = (
        Measured(
            kind="measured",
            measure=predicate.measure.kind,
            names=predicate.measure.names,
            direction=predicate.measure.direction,
            low=predicate.low if np.isfinite(predicate.low) else None,
            high=predicate.high if np.isfinite(predicate.high) else None,
            since_start=predicate.since_start,
        )
        for predicate in predicates
    )
    return [body.model_dump(mode="json", exclude_defaults=True) for body in bodies]


def core_predicate(success: Success) -> Predicate:
    """Return a condition as an episode checks it."""
    if isinstance(success, Lifted):
        measure = Measure(kind="height", names=(success.body,))
        return Predicate(measure=measure, low=success.height_m, since_start=True)
    if isinstance(success, Near):
        return Predicate(measure=Measure(kind="distance", names=success.bodies), high=success.distance_m)
    if isinstance(success, InContact):
        return Predicate(measure=Measure(kind="contact", names=success.bodies), low=success.force_n)
    if isinstance(success, JointRange):
        return Predicate(measure=Measure(kind="joint", names=(success.joint,)), low=success.low, high=success.high)
    return Predicate(
        measure=Measure(kind=success.measure, names=success.names, direction=success.direction),
        low=-np.inf if success.low is None else success.low,
        high=np.inf if success.high is None else success.high,
        since_start=success.since_start,
    )
