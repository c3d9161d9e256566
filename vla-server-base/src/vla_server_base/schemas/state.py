"""Parts of a scene in a request: the state of its simulation, how it is drawn, and its files."""

from collections.abc import Iterable, Mapping
from typing import Annotated

import numpy as np
import pydantic
from pydantic import Field

from vla_server_base.scenes.messages import NUM_GEOM_GROUPS, BodyPose, SceneState
from vla_server_base.schemas.base import Body
from vla_server_base.schemas.ranges import Metres, Numbers

GeomGroup = Annotated[int, Field(ge=0, lt=NUM_GEOM_GROUPS)]


class RenderField(Body):
    """What of the scene is drawn."""

    geom_groups: list[GeomGroup] | None = Field(default=None, min_length=1, max_length=NUM_GEOM_GROUPS)
    """Groups of geoms; null draws 0 to 2, or 1 and 2 in scenes like robosuite's, whose group 0 collides."""


class AssetField(Body):
    """A file that was put at /assets/{sha256} before."""

    sha256: str
    """The SHA-256 of its bytes, in hexadecimal."""


QuaternionPart = Annotated[float, Field(ge=-1e6, le=1e6)]
MAX_PUT_BODIES = 1_000


class BodyPoseField(Body):
    """Where to put a body, in the world's frame."""

    position: tuple[Metres, Metres, Metres]
    """Its origin [m]."""
    quaternion: tuple[QuaternionPart, QuaternionPart, QuaternionPart, QuaternionPart] | None = None
    """Its orientation (w x y z), of any length; null keeps it."""

    @pydantic.field_validator("quaternion")
    @classmethod
    def _has_a_direction(cls, quaternion: tuple[float, float, float, float] | None):
        if quaternion is not None and not any(quaternion):
            raise ValueError("a quaternion of length zero has no direction; for no rotation send 1 0 0 0")
        return quaternion


PutBodies = Annotated[dict[str, BodyPoseField], Field(max_length=MAX_PUT_BODIES)]
"""Poses of bodies with a free joint, by the bodies' names."""


class StateField(Body):
    """Where the scene's simulation stands; what is left out stays as the keyframe has it."""

    qpos: Numbers | None = None
    """Joint positions in MuJoCo's qpos order [m, rad, quaternions w x y z]."""
    qvel: Numbers | None = None
    """Joint velocities [m/s, rad/s]."""
    ctrl: Numbers | None = None
    """Actuator controls."""
    mocap_pos: Annotated[list[tuple[float, float, float]], Field(fail_fast=True)] | None = None
    """Positions of the mocap bodies [m], a row for each."""
    mocap_quat: Annotated[list[tuple[float, float, float, float]], Field(fail_fast=True)] | None = None
    """Orientations of the mocap bodies (w x y z), a row for each."""
    keyframe: str | int | None = None
    """Keyframe to begin with, by name or index; without it `home`, or the model's own pose if there is none."""
    bodies: PutBodies = Field(default_factory=dict)
    """Where bodies with a free joint are put, at rest, after all of the above."""

    def to_core(self) -> SceneState:
        """Return the state as a simulation takes it."""
        return SceneState(
            qpos=_array(self.qpos),
            qvel=_array(self.qvel),
            ctrl=_array(self.ctrl),
            mocap_pos=_array(self.mocap_pos, 3),
            mocap_quat=_array(self.mocap_quat, 4),
            keyframe=self.keyframe,
            bodies=core_body_poses(self.bodies),
        )


def core_body_poses(bodies: Mapping[str, BodyPoseField]) -> tuple[BodyPose, ...]:
    """Return poses as a simulation takes them."""
    return tuple(
        BodyPose(body=name, position=np.array(pose.position, np.float64), quaternion=_quaternion(pose.quaternion))
        for name, pose in bodies.items()
    )


def body_poses_to_body(poses: Iterable[BodyPose]) -> dict[str, dict[str, list[float]]]:
    """Return poses as `bodies` of a request takes them."""
    return {
        pose.body: {
            "position": pose.position.tolist(),
            **({} if pose.quaternion is None else {"quaternion": pose.quaternion.tolist()}),
        }
        for pose in poses
    }


def _quaternion(parts: tuple[float, float, float, float] | None) -> np.ndarray | None:
    return None if parts is None else np.array(parts, np.float64)


def _array(numbers: list | None, columns: int | None = None) -> np.ndarray | None:
    if numbers is None:
        return None
    array = np.array(numbers, np.float64)
    return array.reshape(-1, columns) if columns else array
