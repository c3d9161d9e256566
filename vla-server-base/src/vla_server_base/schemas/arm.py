"""An arm in a request: its joints and gripper, how actions move it, and the bounds of its motion."""

from typing import Literal

import numpy as np
import pydantic
from pydantic import Field

from vla_server_base.scenes.messages import Bounds, ControlSettings
from vla_server_base.scenes.robots import Gripper, RobotDescription
from vla_server_base.schemas.base import Body
from vla_server_base.schemas.ranges import Names, Newtons, Numbers

Point = tuple[float, float, float]


class GripperField(Body):
    """The actuators that move a gripper's fingers."""

    actuators: Names = Field(min_length=1, max_length=16)
    """Their names in the scene."""
    open: Numbers
    """The control value of each where the gripper is open."""
    closed: Numbers
    """The control value of each where it is closed."""

    @pydantic.model_validator(mode="after")
    def _a_value_for_each(self):
        if not len(self.actuators) == len(self.open) == len(self.closed):
            raise ValueError("open and closed hold one value for each actuator")
        return self


class RobotField(Body):
    """An arm by the names that its parts have in the scene."""

    joints: Names = Field(min_length=1, max_length=32)
    """The arm's joints, from base to flange."""
    end_effector: str
    """The site or body that is controlled."""
    offset: Point = (0.0, 0.0, 0.0)
    """The controlled point in its frame [m]."""
    gripper: GripperField | None = None
    """The gripper; null for an arm without one."""
    home: Numbers | None = None
    """A comfortable pose [rad or m], to which the arm tends where it is free to; null for mid range."""
    velocity_limits: Numbers | None = None
    """The fastest that each joint may move [rad/s or m/s]."""

    @pydantic.model_validator(mode="after")
    def _a_value_for_each(self):
        for name in ("home", "velocity_limits"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.joints):
                raise ValueError(f"{name} holds one value for each of the {len(self.joints)} joints")
        return self

    def to_core(self) -> RobotDescription:
        """Return the arm as controllers take it."""
        gripper = self.gripper and Gripper(
            actuators=tuple(self.gripper.actuators), open=tuple(self.gripper.open), closed=tuple(self.gripper.closed)
        )
        return RobotDescription(
            name="described",
            joints=tuple(self.joints),
            end_effector=self.end_effector,
            offset=self.offset,
            gripper=gripper,
            home=None if self.home is None else tuple(self.home),
            velocity_limits=None if self.velocity_limits is None else tuple(self.velocity_limits),
        )


class ControlField(Body):
    """How an action moves the arm."""

    rate_hz: float = Field(default=5.0, ge=1.0, le=100.0)
    """Actions a second: each is executed for 1 / rate_hz of simulated time."""
    frame: Literal["base", "tool"] = "base"
    """Whose axes the action's motion is along."""
    max_translation_m: float = Field(default=0.05, gt=0.0, le=1.0)
    """Longest motion of one action; longer ones are shortened."""
    max_rotation_rad: float = Field(default=0.25, gt=0.0, le=3.14)
    """Largest turn of one action."""
    gripper: Literal["absolute", "sticky"] = "absolute"
    """`absolute` opens above the threshold; `sticky` starts a whole opening or closing when the number jumps."""
    gripper_threshold: float = Field(default=0.5, gt=0.0, lt=1.0)
    """What the gripper's number (1 open, 0 closed) is compared with."""

    def to_core(self) -> ControlSettings:
        """Return the settings as controllers take them."""
        return ControlSettings(**self.model_dump())


class BoundsField(Body):
    """What a motion must stay within."""

    workspace: tuple[Point, Point] | None = None
    """Lowest and highest corner of a box for the end effector, in the robot's base frame [m]; null for none."""
    max_joint_speed: float | None = Field(default=None, gt=0.0, le=1e6)
    """For every joint of the arm [rad/s or m/s]; null takes the robot's own limits if they are known."""
    max_contact_force_n: Newtons = 100.0
    """How hard any part of the robot may press on anything [N]."""

    def to_core(self) -> Bounds:
        """Return the bounds as a rollout checks them."""
        return Bounds(
            workspace=None if self.workspace is None else np.array(self.workspace, np.float64),
            max_joint_speed=self.max_joint_speed,
            max_contact_force_n=self.max_contact_force_n,
        )
