"""The body of POST /execute: an episode, and what counts as success."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
from pydantic import Field

from vla_server_base.contract import PolicySpec
from vla_server_base.episodes.settings import EpisodeSettings, Predicate
from vla_server_base.scenes.messages import Measure, MeasureKind
from vla_server_base.schemas.arm import ArmFields, bounds_from_body, control_from_body, robot_from_body
from vla_server_base.schemas.base import Body
from vla_server_base.schemas.ranges import (
    EnsembleWeight,
    ExecutionHorizon,
    JointPosition,
    Measurement,
    Metres,
    Newtons,
    Seed,
)
from vla_server_base.schemas.scene import state_from_body, view_from_body


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
            raise ValueError(f"'{self.measure}' takes {count} of names, {len(self.names)} are given")
        return self


Success = Annotated[Lifted | Near | InContact | JointRange | Measured, Field(discriminator="kind")]


class ExecuteRequest(ArmFields):
    """A whole episode: a scene with an arm, an instruction, and how the loop is closed."""

    max_steps: int = Field(default=75, ge=1, le=1000)
    """Actions after which the episode ends, if it has not before."""
    execution_horizon: ExecutionHorizon = 1
    """Actions of each chunk that are executed before the policy is asked again."""
    ensemble_weight: EnsembleWeight | None = None
    """Averages overlapping chunks instead, with weights exp(-w * age), the oldest first; null does not."""
    seed: Seed | None = None
    """The episode is a function of this and of the request; drawn and returned if left out."""
    latency_ms: float = Field(default=0.0, ge=0.0, le=2000.0)
    """Simulated time that passes while the policy thinks; the arm holds what it was told before."""
    success: tuple[Success, ...] = Field(default=(), max_length=16, fail_fast=True)
    """The episode ends as soon as all of these hold at once."""
    frames: Literal["none", "jpeg"] = "none"
    """Whether each event of a stream carries what the policy's cameras see."""
    record: tuple[Literal["webp", "state_log"], ...] = Field(default=(), max_length=16, fail_fast=True)
    """What to return of the whole episode: an animation, a scene to replay in MuJoCo's viewer."""

    @pydantic.model_validator(mode="after")
    def _one_way_to_execute(self):
        if self.ensemble_weight is not None and self.execution_horizon > 1:
            raise ValueError("execution_horizon and ensemble_weight exclude one another")
        return self


def settings_from_body(body: ExecuteRequest, seed: int, spec: PolicySpec) -> EpisodeSettings:
    """Return how the episode runs.

    Raises:
        RequestError, UnknownName: see `view_from_body`.
    """
    return EpisodeSettings(
        max_steps=body.max_steps,
        execution_horizon=body.execution_horizon,
        ensemble_weight=body.ensemble_weight,
        seed=seed,
        latency_s=body.latency_ms / 1e3,
        success=tuple(_predicate(success) for success in body.success),
        guard=body.guard,
        preview=body.preview,
        bounds=bounds_from_body(body.bounds),
        robot=robot_from_body(body.robot),
        control=control_from_body(body.control),
        state=state_from_body(body.state),
        view=view_from_body(body, spec),
        with_images=body.frames != "none" or "webp" in body.record,
    )


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


def _predicate(success: Success) -> Predicate:
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
