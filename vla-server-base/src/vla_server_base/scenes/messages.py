"""What the server and its scene workers say to one another. Plain data; both sides import this file."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

from vla_server_base.errors import VLAError

RendererName = Literal["egl", "osmesa", "raycast"]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A scene as a client sends it: MJCF text and the files it names, by plain name."""

    xml: str
    assets: Mapping[str, bytes] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """Name the content: equal for scenes that compile to the same."""
        digest = hashlib.sha256()
        parts = [self.xml.encode("utf-8", "replace")]
        for name in sorted(self.assets):
            parts += [name.encode("utf-8", "replace"), self.assets[name]]
        for part in parts:
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class SceneState:
    """Where a scene's simulation stands; what is None stays as the keyframe has it.

    Joint positions in MuJoCo's qpos order [m, rad, quaternions w x y z]; `mocap_pos` [m] and
    `mocap_quat` one row per mocap body; `keyframe` by name or index, applied first; None is
    the one named `home`, or the model's own reference pose where there is no such keyframe.
    """

    qpos: Float[np.ndarray, " nq"] | None = None
    qvel: Float[np.ndarray, " nv"] | None = None
    ctrl: Float[np.ndarray, " nu"] | None = None
    mocap_pos: Float[np.ndarray, "nmocap 3"] | None = None
    mocap_quat: Float[np.ndarray, "nmocap 4"] | None = None
    keyframe: str | int | None = None


@dataclass(frozen=True, kw_only=True)
class RenderQuality:
    """What a picture may cost. All off by default: shadows alone are three quarters of a frame's time."""

    shadows: bool = False
    reflections: bool = False
    multisampling: int = 0


@dataclass(frozen=True, kw_only=True)
class RenderRequest:
    """Render one scene in one state from one or two cameras.

    `camera` None takes the camera named `primary`, else the first that is not `wrist`; `wrist_camera` None
    takes the camera named `wrist` where the scene has one, "" takes none.
    """

    scene: Scene
    state: SceneState = field(default_factory=SceneState)
    camera: str | None = None
    wrist_camera: str | None = None
    height: int = 224
    width: int = 224


@dataclass(frozen=True, kw_only=True)
class RenderReply:
    """RGB pictures by the policy's camera names (`primary`, and `wrist` if there is one), and what they cost.

    `cameras` says which of the scene's cameras each came from. `compile_ms` is 0 where the worker still
    held the compiled scene.
    """

    images: Mapping[str, UInt8[np.ndarray, "height width 3"]]
    cameras: Mapping[str, str]
    renderer: RendererName
    compile_ms: float
    render_ms: float


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """What one worker process is told when it starts."""

    renderer: RendererName
    quality: RenderQuality
    timeout_s: float
    memory_mb: int


@dataclass(frozen=True, kw_only=True)
class Job:
    """A request as a worker gets it; `scene` is None where the worker still holds `key` compiled."""

    key: str
    scene: Scene | None
    state: SceneState
    camera: str | None
    wrist_camera: str | None
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a worker says to a job, which scenes it now holds compiled, and whether it must be replaced."""

    outcome: RenderReply | VLAError
    held: frozenset[str]
    spent: bool
