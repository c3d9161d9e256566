"""The bundled tabletop scenes in numbers: robot, objects, and the reachable part of the table."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vla_server_base.errors import UnknownName
from vla_server_base.scenes.messages import Pose, SimulationState
from vla_server_base.scenes.robots import BUNDLED_PANDA, BUNDLED_WIDOWX

OBJECTS = ("red_cube", "blue_cube", "green_sphere")
"""The bodies of both scenes, in the order of their free joints, which follow the fingers in qpos."""

NUM_FINGERS, NUM_FREE = 2, 7
"""How many numbers of qpos the two fingers, and each object, have."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """One robot's table; lengths [m], in the robot's base frame, which is the world's.

    `half_size` is half the size of an object. `finger_zero` and `finger_open` are positions of the first finger's
    joint, where the pads touch and where they are open. The origin of the body `hand` is `hand_height` above the grasp
    point. Objects are placed within the bounds `x` and `y`.
    """

    robot: str
    joints: tuple[str, ...]
    half_size: float
    finger_joint: str
    finger_zero: float
    finger_open: float
    hand: str
    hand_height: float
    x: tuple[float, float]
    y: tuple[float, float]

    @property
    def num_joints(self) -> int:
        """How many joints the arm has, without the fingers'."""
        return len(self.joints)

    @property
    def open_gap(self) -> float:
        """The distance between the pads of an open gripper."""
        return 2 * (self.finger_open - self.finger_zero)

    def objects(self, qpos: Float[np.ndarray, "*moments nq"]) -> Float[np.ndarray, "*moments objects 7"]:
        """Return the objects' part of qpos as a view: a row of x, y, z [m] and quaternion for each of `OBJECTS`."""
        first = self.num_joints + NUM_FINGERS
        rows = qpos[..., first : first + len(OBJECTS) * NUM_FREE]
        return rows.reshape(*qpos.shape[:-1], len(OBJECTS), NUM_FREE)


TABLES = {
    "panda": Table(
        robot="panda",
        joints=BUNDLED_PANDA.joints,
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
        joints=BUNDLED_WIDOWX.joints,
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
        UnknownName: the robot has no table; the hint lists those that have.
    """
    if robot not in TABLES:
        raise UnknownName("robot", robot, TABLES)
    return TABLES[robot]


@dataclass(frozen=True, kw_only=True)
class ObjectPose:
    """The pose of an object: its centre [m], and the rotation of its sides about the vertical [rad].

    `yaw` is defined up to quarter turns, so that it does not matter on which side a cube lies.
    """

    position: Float[np.ndarray, " 3"]
    yaw: float


@dataclass(frozen=True, kw_only=True)
class TableState:
    """What an expert knows: the poses of the gripper and the objects.

    `position` [m] and `axes`, a rotation matrix, are the end effector's in the base frame; `gap` [m] parts the pads.
    """

    table: Table
    position: Float[np.ndarray, " 3"]
    axes: Float[np.ndarray, "3 3"]
    gap: float
    objects: Mapping[str, ObjectPose]

    @property
    def gripper_opening(self) -> float:
        """The opening of the gripper, 0 to 1."""
        return self.gap / self.table.open_gap


def read_state(table: Table, state: SimulationState, pose: Pose) -> TableState:
    """Compute the state of the table from a rollout's state and pose."""
    return TableState(
        table=table,
        position=pose.position,
        axes=rotation(pose.quaternion),
        gap=2 * float(state.qpos[table.num_joints] - table.finger_zero),
        objects={
            name: ObjectPose(position=row[:3], yaw=_yaw_of_sides(rotation(row[3:])))
            for name, row in zip(OBJECTS, table.objects(state.qpos), strict=True)
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
