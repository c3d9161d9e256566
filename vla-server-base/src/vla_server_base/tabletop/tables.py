"""What a bundled tabletop scene is, in numbers: its robot, its objects, where the gripper reaches the table."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vla_server_base.errors import UnknownName
from vla_server_base.scenes.messages import Pose, SimulationState

OBJECTS = ("red_cube", "blue_cube", "green_sphere")
"""Bodies of both scenes, in the order in which their free joints follow the fingers in qpos."""

NUM_FINGERS, NUM_FREE = 2, 7
"""Numbers of qpos for the two fingers, and for each object."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """One robot's table; lengths [m], in the robot's base frame, which is the world's.

    `finger_closed` and `finger_open` are positions of the first finger's joint; `finger_gap` is what the pads are
    apart for each metre beyond `finger_zero`. `hand` is the body whose origin is `hand_height` over the grasp point.
    `x` and `y` is where objects are put.
    """

    robot: str
    num_joints: int
    half_size: float
    finger_joint: str
    finger_zero: float
    finger_open: float
    hand: str
    hand_height: float
    x: tuple[float, float]
    y: tuple[float, float]

    @property
    def open_gap(self) -> float:
        """How far apart the pads are on an open gripper."""
        return 2 * (self.finger_open - self.finger_zero)


TABLES = {
    "panda": Table(
        robot="panda",
        num_joints=7,
        half_size=0.025,
        finger_joint="finger_joint1",
        finger_zero=0.0,
        finger_open=0.04,
        hand="hand",
        hand_height=0.1034,
        x=(0.38, 0.62),
        y=(-0.26, 0.26),
    ),
    "widowx": Table(
        robot="widowx",
        num_joints=6,
        half_size=0.0175,
        finger_joint="left_finger",
        finger_zero=0.009,
        finger_open=0.037,
        hand="gripper_link",
        hand_height=0.0936,
        x=(0.2, 0.36),
        y=(-0.14, 0.14),
    ),
}


def table_of(robot: str) -> Table:
    """Return a robot's table.

    Raises:
        UnknownName: naming the robots that have one.
    """
    if robot not in TABLES:
        raise UnknownName("robot", robot, TABLES)
    return TABLES[robot]


@dataclass(frozen=True, kw_only=True)
class Thing:
    """Where an object stands: its middle [m], and which way its sides are turned about the vertical [rad].

    `yaw` is given up to quarter turns, so that a cube that fell on another side has one as well.
    """

    position: Float[np.ndarray, " 3"]
    yaw: float


@dataclass(frozen=True, kw_only=True)
class TableState:
    """All that an expert knows: where gripper and objects are at one moment.

    The end effector's `position` [m] and `axes`, a rotation matrix, in the base frame; `gap` between the pads [m].
    """

    table: Table
    position: Float[np.ndarray, " 3"]
    axes: Float[np.ndarray, "3 3"]
    gap: float
    things: Mapping[str, Thing]

    @property
    def openness(self) -> float:
        """How far the gripper is open, 0 to 1."""
        return self.gap / self.table.open_gap


def read_state(table: Table, state: SimulationState, pose: Pose) -> TableState:
    """Return what a rollout's state and pose say of the table."""
    free = state.qpos[table.num_joints + NUM_FINGERS :].reshape(len(OBJECTS), NUM_FREE)
    return TableState(
        table=table,
        position=pose.position,
        axes=rotation(pose.quaternion),
        gap=2 * float(state.qpos[table.num_joints] - table.finger_zero),
        things={
            name: Thing(position=row[:3], yaw=_yaw_of_sides(rotation(row[3:])))
            for name, row in zip(OBJECTS, free, strict=True)
        },
    )


def _yaw_of_sides(axes: Float[np.ndarray, "3 3"]) -> float:
    level = axes[:, np.abs(axes[2]).argmin()]
    return float(np.arctan2(level[1], level[0]))


def rotation(quaternion: Float[np.ndarray, " 4"]) -> Float[np.ndarray, "3 3"]:
    """Return the rotation matrix of a unit quaternion (w x y z)."""
    w, x, y, z = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
