"""A scene in a request: a task, a MuJoCo scene and its state, the cameras, and the arm that moves in it."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import pydantic
from pydantic import Field

from vla_server_base.config import ServerConfig
from vla_server_base.contract import PolicySpec, Task
from vla_server_base.episodes.scene_cameras import scene_cameras
from vla_server_base.errors import ImageError, InstructionError, RequestError, UnknownName
from vla_server_base.request_inputs import EncodedImage, check_task, images_by_camera
from vla_server_base.scenes import limits
from vla_server_base.scenes.messages import View, policy_view, wrist_camera
from vla_server_base.schemas.arm import BoundsField, ControlField, RobotField
from vla_server_base.schemas.base import Body, Upload
from vla_server_base.schemas.inputs import SceneInputs
from vla_server_base.schemas.ranges import ByCamera
from vla_server_base.schemas.state import AssetField, RenderField, StateField

NO_FILES = Upload(request=b"")
DEFAULT_STATE = StateField().to_core()
DEFAULT_CONTROL = ControlField().to_core()
DEFAULT_BOUNDS = BoundsField().to_core()
SYNONYMS: Sequence[Sequence[str]] = (
    # Octo's name, OpenVLA's, and that of the copy in Open X-Embodiment.
    ("bridge_dataset", "bridge_orig", "bridge_oxe", "bridge"),
    # OpenVLA drops the steps without motion, and says so in the name.
    *((f"libero_{suite}", f"libero_{suite}_no_noops") for suite in ("spatial", "object", "goal", "10", "90")),
)
"""Names of the same recordings of the same robot; other names of OpenVLA and Octo agree."""


class SceneRequest(Body):
    """A task, and a scene with an arm that may do it: what POST /predict and POST /execute share."""

    image_fields: ClassVar[tuple[str, ...]] = ()
    """Fields of images that a request may have instead of a scene."""
    task_fields: ClassVar[tuple[str, ...]] = ("instruction", "goal_image", "goal_image_wrist", "goal_images", "dataset")
    """Fields that need no scene."""

    instruction: str = ""
    """What the robot is to do; may be left out where a goal image says it, or where the server has a default one."""
    goal_image: str | None = None
    """What the policy's first camera shall see in the end: PNG, JPEG or WebP as base64, or as a data: URL."""
    goal_image_wrist: str | None = None
    """What the camera `wrist` shall see in the end."""
    goal_images: ByCamera = Field(default_factory=dict)
    """What cameras shall see in the end, by the policy's names for them."""
    dataset: str | None = None
    """Whose statistics un-normalize the action; without it the policy's default."""
    xml_string: str | None = None
    """A MuJoCo scene (MJCF), rendered here."""
    scene_id: str | None = None
    """A scene that was answered before, by the scene_id of that reply."""
    scene_file: str | None = None
    """Which file of a zip is the scene, by its path in the zip; without it the one that no other includes."""
    camera: str | None = None
    """The scene's camera for the policy's first; without it the one of that name, else `primary`, else another."""
    wrist_camera: str | None = None
    """The scene's camera for the policy's `wrist`, or its only one of a wrist; else that of its name; "" for none."""
    cameras: ByCamera = Field(default_factory=dict)
    """The scene's cameras, by the policy's names for what they show; else as docs/scenes.md says; "" for none."""
    render: RenderField = RenderField()
    """How the scene is drawn: `geom_groups`."""
    state: StateField = StateField()
    """The scene's state."""
    assets: dict[str, str | AssetField] = Field(default_factory=dict, max_length=limits.MAX_ASSETS)
    """Files that the scene names (meshes, textures), by name: base64, or the hash of one that was put before."""
    robot: str | RobotField | None = None
    """The arm: a known robot's name, or a description; null finds the scene's arm."""
    control: ControlField = ControlField()
    """How actions move it."""
    bounds: BoundsField = BoundsField()
    """What `guard` watches over."""
    guard: Literal["off", "warn", "clamp", "reject"] = "off"
    """What is done where an action would leave the bounds: nothing, say so, cut its motion, or refuse the chunk."""
    preview: bool = False
    """Whether to say what the whole chunk is predicted to do; a guard other than `off` says it anyway."""
    poses: bool = False
    """Whether to say where the moving bodies are, 30 times a simulated second; /predict then adds `preview`, too."""

    @pydantic.model_validator(mode="after")
    def _one_source(self, info: Any):  # pydantic's ValidationInfo is a protocol that no run-time check can test
        upload = info.context or NO_FILES
        given = [name for name in ("xml_string", "scene_id") if getattr(self, name) is not None]
        given += [f"the part '{name}'" for name in ("xml", "scene") if getattr(upload, name) is not None]
        # Images of several cameras count as one source.
        given += [name for name in self.image_fields if getattr(self, name) not in (None, {})][:1]
        if len(given) != 1:
            sources = f"got {' and '.join(given)}" if given else "got none"
            accepted = ("xml_string", "scene_id", *(["image (or images)"] if self.image_fields else []))
            raise ValueError(f"expected exactly one of {', '.join(accepted)}, {sources}")
        if not self.brings_scene(upload) and (self.assets or upload.assets):
            raise ValueError(f"assets cannot be combined with {given[0]}: they are the files of a scene in the request")
        if self.scene_file is not None and upload.scene is None:
            raise ValueError(
                f"scene_file cannot be combined with {given[0]}: it names a file of the zip in the part 'scene'"
            )
        return self

    @property
    def has_images(self) -> bool:
        """Whether there are images to decode, which takes longer than the event loop may wait."""
        return bool(self.goal_image or self.goal_image_wrist or self.goal_images)

    def brings_scene(self, upload: Upload) -> bool:
        """Return whether the request has a scene, in its JSON or as a part."""
        return self.xml_string is not None or upload.xml is not None or upload.scene is not None

    def core_scene(self, spec: PolicySpec, config: ServerConfig) -> SceneInputs:
        """Return the scene's state, cameras and arm.

        Raises:
            UnknownName, RequestError: see `core_view`.
        """
        return SceneInputs(
            view=self.core_view(spec, config),
            state=self.state.to_core() if "state" in self.model_fields_set else DEFAULT_STATE,
            robot=self.robot.to_core() if isinstance(self.robot, RobotField) else self.robot,
            control=self.control.to_core() if "control" in self.model_fields_set else DEFAULT_CONTROL,
            bounds=self.bounds.to_core() if "bounds" in self.model_fields_set else DEFAULT_BOUNDS,
            guard=self.guard,
            wants_preview=self.preview,
            wants_poses=self.poses,
        )

    def core_dataset(self, spec: PolicySpec) -> tuple[str | None, str | None]:
        """Return the dataset as the policy calls it, and a note for the client."""
        return (None, None) if self.dataset is None else known_dataset(self.dataset, spec)

    def core_instruction(
        self, spec: PolicySpec, config: ServerConfig
    ) -> tuple[str | None, dict[str, EncodedImage], str | None]:
        """Return the instruction, the goal images, and a note for the client.

        Raises:
            InstructionError, ImageError: the policy cannot take them, or there are none.
        """
        goals = images_by_camera(self, spec, kind="goal_image")
        if goals and not spec.takes_goal_images:
            hint = "send an instruction instead" if spec.takes_instruction else "leave them out: it does one task"
            raise ImageError("this policy takes no goal images", hint=hint)
        # A goal image says what to do.
        instruction, note = instruction_or_default(self.instruction, "" if goals else config.default_instruction, spec)
        if not goals:
            alternative = ", or a goal_image" if spec.takes_goal_images else ""
            hint = f"send an instruction{alternative}"
            check_task(Task(instruction=instruction), spec, message="the instruction is empty", hint=hint)
        return instruction, goals, note

    def core_view(self, spec: PolicySpec, config: ServerConfig) -> View:
        """Return the scene's camera for each camera of the policy.

        Raises:
            UnknownName: the policy has no such camera.
            RequestError: two are given for one camera, or none for the first or a required one.
        """
        first = spec.camera_names[0]
        cameras: dict[str, str | None] = dict.fromkeys(spec.camera_names)
        wrist = wrist_camera(spec) or "wrist"
        for camera, chosen in ((first, self.camera), (wrist, self.wrist_camera), *self.cameras.items()):
            # A camera that the policy lacks sees nothing anyway.
            if chosen is None or (chosen == "" and camera not in cameras):
                continue
            if camera not in cameras:
                raise UnknownName("camera", camera, spec.camera_names)
            if cameras[camera] is not None:
                raise RequestError(f"two of the scene's cameras are given for the policy's '{camera}'", hint="give one")
            cameras[camera] = chosen
        for camera in spec.cameras:
            if cameras[camera.name] == "" and (camera.required or camera.name == first):
                which = "first camera" if camera.name == first else "camera"
                hint = "name a camera of the scene"
                raise RequestError(f"the policy's {which}, '{camera.name}', needs an image", hint=hint)
        view = View(cameras=cameras, geom_groups=core_groups(self.render))
        return policy_view(spec, view, scene_cameras(config))


def core_groups(render: RenderField) -> tuple[int, ...] | None:
    """Return the groups of geoms to draw, sorted; None for the default."""
    groups = render.geom_groups
    return None if groups is None else tuple(sorted(set(groups)))


def known_dataset(name: str, spec: PolicySpec) -> tuple[str | None, str | None]:
    """Return the policy's dataset for a client's name of it, and a note for the client.

    Raises:
        UnknownName: the policy has several datasets, and none of that name.
    """
    if name in spec.datasets:
        return name, None
    same = {each for names in SYNONYMS if name in names for each in names}
    if synonyms := [each for each in spec.datasets if each in same]:
        return synonyms[0], f"dataset '{name}' is '{synonyms[0]}' here"
    if len(spec.datasets) > 1:
        raise UnknownName("dataset", name, spec.datasets)
    if spec.datasets:
        (only,) = spec.datasets
        return only, f"dataset '{name[:80]}' is not known; actions are in the units of the only one, '{only}'"
    return None, f"dataset '{name[:80]}' is not known here; this policy's actions are in its own units"


def instruction_or_default(instruction: str, default: str, spec: PolicySpec) -> tuple[str | None, str | None]:
    """Return the instruction, None if it is empty, and a note for the client.

    The note says that it is the server's default, or that the policy reads none.

    Raises:
        InstructionError: it is longer than the policy takes.
    """
    text = instruction if instruction.strip() or not spec.takes_instruction else default
    if not text.strip():
        return None, None
    if len(text) > spec.max_instruction_chars:
        given, limit = len(text), spec.max_instruction_chars
        raise InstructionError(f"the instruction has {given} characters; the limit is {limit}", hint="shorten it")
    if not spec.takes_instruction:
        return text, "this policy reads no instruction: it does the one task that it was trained for"
    is_default = text is not instruction
    return text, f"the request has no instruction; the server's default is used: '{default}'" if is_default else None
