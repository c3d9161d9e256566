"""A MuJoCo scene in a request, and its way into the core types."""

from typing import Annotated, Any, ClassVar

import numpy as np
import pydantic
from pydantic import Field

from vla_server_base.contract import PolicySpec
from vla_server_base.errors import RequestError, UnknownName
from vla_server_base.images import decode_base64
from vla_server_base.scenes import limits
from vla_server_base.scenes.bundle import mjcf_text, scene_from_bundle
from vla_server_base.scenes.content_stores import AssetStore, SceneStore
from vla_server_base.scenes.messages import NUM_GEOM_GROUPS, Scene, SceneState, View
from vla_server_base.schemas.base import Body
from vla_server_base.schemas.images import ByCamera
from vla_server_base.schemas.ranges import Numbers
from vla_server_base.schemas.task import TaskFields
from vla_server_base.server.multipart import Upload

NOTHING_BESIDE = Upload(request=b"")

GeomGroup = Annotated[int, Field(ge=0, lt=NUM_GEOM_GROUPS)]


class StateBody(Body):
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
    """Keyframe to begin with, by name or index; without it `home`, or the model's own pose where there is none."""


class RenderBody(Body):
    """What of the scene is drawn."""

    geom_groups: list[GeomGroup] | None = Field(default=None, min_length=1, max_length=NUM_GEOM_GROUPS)
    """Groups of geoms; null draws 0 to 2, without 0 in scenes of robosuite's kind, where it holds what collides."""


class AssetReference(Body):
    """A file that was put at /assets/{sha256} before."""

    sha256: str
    """The SHA-256 of its bytes, in hexadecimal."""


class SceneFields(TaskFields):
    """A task in a scene: the scene, its state, and the cameras to look through."""

    pictures: ClassVar[tuple[str, ...]] = ()
    """Fields of pictures that a request may have instead of a scene."""

    xml_string: str | None = None
    """A MuJoCo scene (MJCF), rendered here."""
    scene_id: str | None = None
    """A scene that was answered before, by the scene_id of that reply."""
    scene_file: str | None = None
    """Which file of a zip is the scene, by its path in the zip; without it the one that no other includes."""
    camera: str | None = None
    """The scene's camera for the policy's first; without it the one of that name, else `primary`, else another."""
    wrist_camera: str | None = None
    """The scene's camera for the policy's `wrist`; without it the one of that name, if there is one; "" for none."""
    cameras: ByCamera = Field(default_factory=dict)
    """The scene's cameras, by the policy's names for what they show; else those of the same names; "" for none."""
    render: RenderBody = RenderBody()
    """How the scene is drawn: `geom_groups`."""
    state: StateBody = StateBody()
    """The scene's state."""
    assets: dict[str, str | AssetReference] = Field(default_factory=dict, max_length=limits.MAX_ASSETS)
    """Files that the scene names (meshes, textures), by name: base64, or the hash of one that was put before."""

    @pydantic.model_validator(mode="after")
    def _one_source(self, info: Any):  # pydantic's ValidationInfo is a protocol that no run-time check can test
        upload = info.context or NOTHING_BESIDE
        given = [name for name in ("xml_string", "scene_id") if getattr(self, name) is not None]
        given += [f"the part '{name}'" for name in ("xml", "scene") if getattr(upload, name) is not None]
        # Pictures are of one moment, however many.
        given += [name for name in self.pictures if getattr(self, name) not in (None, {})][:1]
        if len(given) != 1:
            found = f"{' and '.join(given)} are given" if given else "none is given"
            taken = ("xml_string", "scene_id", *(["pictures (image, images)"] if self.pictures else []))
            raise ValueError(f"exactly one of {', '.join(taken)} is taken, {found}")
        if not self.brings_scene(upload) and (self.assets or upload.assets):
            raise ValueError(f"assets are not taken beside {given[0]}: they are the files of a scene that is sent")
        if self.scene_file is not None and upload.scene is None:
            raise ValueError(
                f"scene_file is not taken beside {given[0]}: it names a file of the zip in the part 'scene'"
            )
        return self

    def brings_scene(self, upload: Upload) -> bool:
        """Say whether there is a scene in it, or beside it."""
        return self.xml_string is not None or upload.xml is not None or upload.scene is not None


def scene_from_body(body: SceneFields, upload: Upload, assets: AssetStore, scenes: SceneStore) -> Scene | None:
    """Return the scene that a request brings or names, None where it has none; not for the event loop.

    Raises:
        UnknownSceneId, MissingAsset: it names what is not held here.
        SceneError: see `scene_from_bundle`.
        RequestError: an asset is not base64, or comes twice.
    """
    if body.scene_id is not None:
        return scenes.get(body.scene_id)
    if upload.scene is not None:
        scene = scene_from_bundle(upload.scene, body.scene_file)
    elif upload.xml is not None:
        scene = Scene(xml=mjcf_text(upload.xml))
    elif body.xml_string is not None:
        scene = Scene(xml=body.xml_string)
    else:
        return None
    merged = dict(scene.assets)
    named = {name: _asset(name, given, assets) for name, given in body.assets.items()}
    for more in (upload.assets, named):
        if twice := sorted(merged.keys() & more.keys()):
            raise RequestError(f"the asset '{twice[0][:80]}' is given twice")
        merged |= more
    return Scene(xml=scene.xml, assets=merged)


def state_from_body(state: StateBody) -> SceneState:
    """Return where the scene's simulation stands."""
    return SceneState(
        qpos=_array(state.qpos),
        qvel=_array(state.qvel),
        ctrl=_array(state.ctrl),
        mocap_pos=_array(state.mocap_pos, 3),
        mocap_quat=_array(state.mocap_quat, 4),
        keyframe=state.keyframe,
    )


def view_from_body(body: SceneFields, spec: PolicySpec) -> View:
    """Return which of the scene's cameras to look through for each of the policy's.

    Raises:
        UnknownName: the policy has no such camera.
        RequestError: two are given for one camera, or none for the first.
    """
    first = spec.camera_names[0]
    cameras: dict[str, str | None] = dict.fromkeys(spec.camera_names)
    for camera, chosen in ((first, body.camera), ("wrist", body.wrist_camera), *body.cameras.items()):
        # That a camera which the policy lacks shall see nothing goes without saying.
        if chosen is None or (chosen == "" and camera not in cameras):
            continue
        if camera not in cameras:
            raise UnknownName("camera", camera, spec.camera_names)
        if cameras[camera] is not None:
            raise RequestError(f"two of the scene's cameras are given for the policy's '{camera}'", hint="give one")
        cameras[camera] = chosen
    if cameras[first] == "":
        hint = "name one of the scene's"
        raise RequestError(f"the policy's first camera, '{first}', has to see something", hint=hint)
    groups = body.render.geom_groups
    return View(cameras=cameras, geom_groups=None if groups is None else tuple(sorted(set(groups))))


def _asset(name: str, given: str | AssetReference, assets: AssetStore) -> bytes:
    if isinstance(given, AssetReference):
        return assets.get(given.sha256, name)
    try:
        return decode_base64(given)
    except ValueError as error:
        raise RequestError(f"asset '{name[:80]}' is not base64") from error


def _array(numbers: list | None, columns: int | None = None) -> np.ndarray | None:
    if numbers is None:
        return None
    array = np.array(numbers, np.float64)
    return array.reshape(-1, columns) if columns else array
