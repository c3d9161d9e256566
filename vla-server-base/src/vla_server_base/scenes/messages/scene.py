"""A scene, how to render it, and what a policy gets of it: its cameras' images, and what its arm measures."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float, UInt8

from vla_server_base.contract import PolicySpec
from vla_server_base.errors import RequestError
from vla_server_base.scenes.robots import RobotDescription

NUM_GEOM_GROUPS = 6
"""MuJoCo shows no geom of a higher group."""
_WRIST = "wrist"


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
    the same name if the scene has it, else that of `substitutes` if the scene has it, and for the policy's first camera
    otherwise `primary` or another; "" takes none. A scene without a camera for one that is `required` is refused.
    `geom_groups` None shows those of the worker's settings, or else those that the scene's author means to be seen.
    """

    cameras: Mapping[str, str | None] = field(default_factory=lambda: {"primary": None, "wrist": None})
    height: int = 224
    width: int = 224
    geom_groups: tuple[int, ...] | None = None
    substitutes: Mapping[str, str] = field(default_factory=dict)
    required: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class RenderRequest:
    """Draw a scene in one state; `measures_proprio` asks what the sensors of its arm, `robot`, measure there."""

    state: SceneState = field(default_factory=SceneState)
    view: View = field(default_factory=View)
    robot: str | RobotDescription | None = None
    measures_proprio: bool = False


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
    """A request's images, and what they cost.

    `proprio` and `proprio_names` are as in a RolloutReply; where they were asked for and there are none, `no_proprio`
    says why.
    """

    view: RenderedView
    cost: Cost
    proprio: Float[np.ndarray, " proprio"] | None = None
    proprio_names: tuple[str, ...] = ()
    no_proprio: str = ""


def policy_view(spec: PolicySpec, view: View, given: Mapping[str, str] | None = None) -> View:
    """Return `view` through the policy's cameras; `given` are the setting's cameras of scenes.

    Its own choices of cameras stay. A policy's only camera of a wrist may be the scene's `wrist`.
    """
    wrist = wrist_camera(spec)
    kinds = {wrist: _WRIST} if wrist else {}
    return replace(
        view,
        cameras={name: view.cameras.get(name) for name in spec.camera_names},
        substitutes={**kinds, **(given or {}), **view.substitutes},
        required=frozenset(camera.name for camera in spec.cameras if camera.required),
    )


def wrist_camera(spec: PolicySpec) -> str | None:
    """Return the policy's camera `wrist`, or its only one with that in its name."""
    if _WRIST in spec.camera_names:
        return _WRIST
    at_wrist = [name for name in spec.camera_names if _WRIST in name]
    return at_wrist[0] if len(at_wrist) == 1 else None


@dataclass(frozen=True, kw_only=True)
class ProprioChoice:
    """Which measured numbers a policy gets, in its order, or None for none; `note` is for the client."""

    indices: tuple[int, ...] | None = None
    note: str | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What to tell the client: nothing, or one note."""
        return () if self.note is None else (self.note,)

    def names(self, measured: tuple[str, ...]) -> tuple[str, ...]:
        """Return what the arm calls the policy's numbers."""
        return tuple(measured[index] for index in self.indices or ())

    def of(self, measured: Float[np.ndarray, " numbers"] | None) -> Float[np.ndarray, " proprio_dim"] | None:
        """Return the policy's proprio."""
        return None if self.indices is None or measured is None else measured[list(self.indices)]


def choose_proprio(spec: PolicySpec, measured: tuple[str, ...], reason: str = "") -> ProprioChoice:
    """Choose a policy's proprio from what an arm measures, which is empty where no arm was found, for a `reason`.

    A policy that names its proprio gets the numbers of these names; another one gets them all, if it takes as many.
    Without a fit, a policy that can do without gets none, and the note says so.

    Raises:
        RequestError: the policy requires proprio, and this arm measures other numbers.
    """
    if spec.proprio_dim is None:
        return ProprioChoice()
    if spec.proprio_names and set(spec.proprio_names) <= set(measured) and not _in_degrees(spec):
        return ProprioChoice(indices=tuple(measured.index(name) for name in spec.proprio_names))
    if not spec.proprio_names and spec.proprio_dim == len(measured):
        note = f"the policy does not name its proprio; it gets what the arm measures: {', '.join(measured)}"
        return ProprioChoice(indices=tuple(range(len(measured))), note=note)
    lack = f"the policy's proprio is {_described(spec)}, and {_given(measured, reason)}"
    if spec.requires_proprio:
        hint = (
            "send a scene with the arm that the policy was trained on, and have its server name its proprio as the arm"
            " does; POST /predict also takes `proprio` itself"
        )
        raise RequestError(f"proprio: {lack}", hint=hint)
    return ProprioChoice(note=f"{lack}: it gets none")


def _in_degrees(spec: PolicySpec) -> bool:
    return any(unit.startswith("deg") for unit in spec.proprio_units)


def _described(spec: PolicySpec) -> str:
    if not spec.proprio_names:
        return f"{spec.proprio_dim} numbers"
    names = ", ".join(spec.proprio_names)
    return f"{names} (in degrees)" if _in_degrees(spec) else names


def _given(measured: tuple[str, ...], reason: str) -> str:
    if measured:
        return f"the scene's arm measures {len(measured)}: {', '.join(measured)}"
    return reason or "the scene has no arm to measure it"
