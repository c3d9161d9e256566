"""Parts of a scene in a request: the state of its simulation, how it is drawn, and its files."""

from typing import Annotated

import numpy as np
from pydantic import Field

from vla_server_base.scenes.messages import NUM_GEOM_GROUPS, SceneState
from vla_server_base.schemas.base import Body
from vla_server_base.schemas.ranges import Numbers

GeomGroup = Annotated[int, Field(ge=0, lt=NUM_GEOM_GROUPS)]


class RenderField(Body):
    """What of the scene is drawn."""

    geom_groups: list[GeomGroup] | None = Field(default=None, min_length=1, max_length=NUM_GEOM_GROUPS)
    """Groups of geoms; null draws 0 to 2, or 1 and 2 in scenes like robosuite's, whose group 0 collides."""


class AssetField(Body):
    """A file that was put at /assets/{sha256} before."""

    sha256: str
    """The SHA-256 of its bytes, in hexadecimal."""


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

    def to_core(self) -> SceneState:
        """Return the state as a simulation takes it."""
        return SceneState(
            qpos=_array(self.qpos),
            qvel=_array(self.qvel),
            ctrl=_array(self.ctrl),
            mocap_pos=_array(self.mocap_pos, 3),
            mocap_quat=_array(self.mocap_quat, 4),
            keyframe=self.keyframe,
        )


def _array(numbers: list | None, columns: int | None = None) -> np.ndarray | None:
    if numbers is None:
        return None
    array = np.array(numbers, np.float64)
    return array.reshape(-1, columns) if columns else array
