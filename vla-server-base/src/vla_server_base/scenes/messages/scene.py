"""A scene and how to render it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float, UInt8

NUM_GEOM_GROUPS = 6
"""MuJoCo shows no geom of a higher group."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A scene as a client sends it: MJCF text and the files it names, by plain name."""

    xml: str
    assets: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        """How large the scene is, its assets included."""
        return len(self.xml) + sum(len(content) for content in self.assets.values())

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
class BodyPose:
    """Where to put a body that has a free joint, at rest: [m] and w x y z in the world's frame.

    `quaternion` None keeps the body's orientation.
    """

    body: str
    position: Float[np.ndarray, " 3"]
    quaternion: Float[np.ndarray, " 4"] | None = None


@dataclass(frozen=True, kw_only=True)
class SceneState:
    """Where a scene's simulation stands; what is None stays as the keyframe has it.

    Joint positions in MuJoCo's qpos order [m, rad, quaternions w x y z]; `mocap_pos` [m] and
    `mocap_quat` one row per mocap body; `keyframe` by name or index, applied first; None is
    the one named `home`, or the model's own reference pose if there is no such keyframe. `bodies` are put last.
    """

    qpos: Float[np.ndarray, " nq"] | None = None
    qvel: Float[np.ndarray, " nv"] | None = None
    ctrl: Float[np.ndarray, " nu"] | None = None
    mocap_pos: Float[np.ndarray, "nmocap 3"] | None = None
    mocap_quat: Float[np.ndarray, "nmocap 4"] | None = None
    keyframe: str | int | None = None
    bodies: tuple[BodyPose, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RenderQuality:
    """The quality of images, and their cost. All off by default: shadows alone take three quarters of the time."""

    shadows: bool = False
    reflections: bool = False
    multisampling: int = 0


@dataclass(frozen=True, kw_only=True)
class View:
    """Which cameras to render, and the size of the images [pixels].

    `cameras` maps each camera of the policy, its first one in front, to a camera of the scene. None takes the camera of
    the same name if the scene has it, and for the policy's first camera otherwise `primary` or another; "" takes none.
    `geom_groups` None shows those of the worker's settings, or else those that the scene's author means to be seen.
    """

    cameras: Mapping[str, str | None] = field(default_factory=lambda: {"primary": None, "wrist": None})
    height: int = 224
    width: int = 224
    geom_groups: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class RenderRequest:
    """Draw a scene in one state."""

    state: SceneState = field(default_factory=SceneState)
    view: View = field(default_factory=View)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a scene cost: times of this request [ms], memory of the scene while it is cached [bytes].

    `compile_ms` is 0 if the worker had cached the compiled scene; `num_bytes` is the compiled model and one
    simulation of it, without the renderer's copy.
    """

    compile_ms: float = 0.0
    physics_ms: float = 0.0
    render_ms: float = 0.0
    num_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class RenderedView:
    """RGB images by the policy's camera names, its first camera in front.

    `cameras` maps each image to the scene's camera that took it; `geom_groups` are the groups of geoms that they show.
    """

    images: Mapping[str, UInt8[np.ndarray, "height width 3"]]
    cameras: Mapping[str, str]
    geom_groups: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class RenderReply:
    """A request's images, and what they cost."""

    view: RenderedView
    cost: Cost
