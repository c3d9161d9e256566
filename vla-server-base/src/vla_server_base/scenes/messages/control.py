"""How an arm is controlled, what is measured on the way, and its bounds."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

MeasureKind = Literal["height", "along", "distance", "horizontal_distance", "above", "contact", "joint"]


@dataclass(frozen=True, kw_only=True)
class ControlSettings:
    """How an action of the policy (dx, dy, dz [m], droll, dpitch, dyaw [rad], gripper) moves an arm.

    A delta is along the axes of the robot's `base`, or of its `tool`, and is cut to `max_translation_m` and
    `max_rotation_rad` a step. The gripper's number, 1 open and 0 closed, opens above `gripper_threshold`
    (`absolute`), or starts a whole opening or closing when it changes by more than the threshold (`sticky`).
    """

    rate_hz: float = 5.0
    frame: Literal["base", "tool"] = "base"
    max_translation_m: float = 0.05
    max_rotation_rad: float = 0.25
    gripper: Literal["absolute", "sticky"] = "absolute"
    gripper_threshold: float = 0.5


@dataclass(frozen=True, kw_only=True)
class ControlState:
    """What the controller keeps between two steps: its targets for the arm and the gripper.

    `joint_targets` [rad or m] in the order of the robot's joints; `gripper_opening` is 0 closed, 1 open. The rest is
    the sticky gripper's: the last number it got, and for how many more steps it ignores the next ones.
    """

    joint_targets: Float[np.ndarray, " joints"]
    gripper_opening: float
    gripper_value: float | None = None
    gripper_hold: int = 0


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A quantity to measure after each step, over named bodies or a joint of the scene.

    Of bodies' origins, in the world's frame [m]: `height` of one; `along`, where one stands along `direction`, a unit
    vector; `distance` between two; `horizontal_distance` between two; `above`, how much higher the first is than the
    second. `contact`: how hard two bodies press on one another [N], 0 if they do not touch; `joint`: a joint's
    position [rad or m].
    """

    kind: MeasureKind
    names: tuple[str, ...]
    direction: tuple[float, float, float] = (0.0, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The bounds of a motion.

    `workspace` is the lowest and the highest corner of a box for the end effector, in the robot's base
    frame [m]; `max_joint_speed` holds for every joint [rad/s or m/s], None takes the robot's own limits where
    they are known; `max_contact_force_n` is for any contact of the robot's bodies with others.
    """

    workspace: Float[np.ndarray, "2 3"] | None = None
    max_joint_speed: float | None = None
    max_contact_force_n: float = 100.0
