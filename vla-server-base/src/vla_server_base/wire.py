"""What a client sends: the body of a request, and its way into the core types."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pydantic
from pydantic import Field

from vla_server_base.contract import Task
from vla_server_base.errors import RequestError
from vla_server_base.images import decode_base64, decode_image
from vla_server_base.scenes.messages import RenderRequest, Scene, SceneState

_MAX_PROBLEMS_NAMED = 5


class Body(pydantic.BaseModel):
    """A request's body: unknown fields and near misses of a type are refused, by name."""

    model_config = pydantic.ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class StateBody(Body):
    """Where the scene's simulation stands; what is left out stays as the keyframe has it."""

    qpos: list[float] | None = None
    """Joint positions in MuJoCo's qpos order [m, rad, quaternions w x y z]."""
    qvel: list[float] | None = None
    """Joint velocities [m/s, rad/s]."""
    ctrl: list[float] | None = None
    """Actuator controls."""
    mocap_pos: list[tuple[float, float, float]] | None = None
    """Positions of the mocap bodies [m], a row for each."""
    mocap_quat: list[tuple[float, float, float, float]] | None = None
    """Orientations of the mocap bodies (w x y z), a row for each."""
    keyframe: str | int | None = None
    """Keyframe to begin with, by name or index; without it `home`, or the model's own pose where there is none."""


class PredictRequest(Body):
    """What a robot sees and what it is to do: exactly one of `xml_string` and `image`, and an instruction."""

    instruction: str = ""
    """What the robot is to do; may be left out where a goal image says it."""
    xml_string: str | None = None
    """A MuJoCo scene (MJCF), rendered here."""
    camera: str | None = None
    """The scene's camera to look through; without it `primary`, else the first that is not `wrist`."""
    wrist_camera: str | None = None
    """The scene's wrist camera; without it the one named `wrist` where there is one; "" for none."""
    state: StateBody = StateBody()
    """The scene's state."""
    assets: dict[str, str] = {}
    """Files that the scene names (meshes, textures): plain name -> base64."""
    image: str | None = None
    """What the primary camera saw, instead of a scene: PNG, JPEG or WebP as base64, or as a data: URL."""
    image_wrist: str | None = None
    """What the wrist camera saw; goes with `image`."""
    goal_image: str | None = None
    """What the primary camera shall see in the end."""
    goal_image_wrist: str | None = None
    """What the wrist camera shall see in the end."""
    proprio: list[float] | None = None
    """The robot's own state in the units of the policy's training data, for policies that take it."""
    dataset: str | None = None
    """Whose statistics un-normalize the action; without it the policy's default."""
    action_format: str | None = None
    """Form of `action` in the reply; without it the policy's first, `standard` as a rule."""
    seed: int | None = Field(default=None, ge=0, lt=2**32)
    """Noise is a function of this and nothing else; drawn and returned if left out."""
    num_samples: int = Field(default=1, ge=1)
    """How many chunks to draw; more than one adds `samples` to the reply."""
    return_image: bool = False
    """Whether the reply has `images`: what the policy's cameras saw, before it was resized."""

    @pydantic.model_validator(mode="after")
    def _scene_or_image(self):
        if (self.xml_string is None) == (self.image is None):
            found = "neither is given" if self.image is None else "both are given"
            raise ValueError(f"exactly one of xml_string and image is taken, {found}")
        foreign = {"camera", "wrist_camera", "state", "assets"} if self.image is not None else {"image_wrist"}
        given = {name for name in foreign & self.model_fields_set if getattr(self, name) is not None}
        if misplaced := sorted(given):
            owner = "image" if "image_wrist" in misplaced else "xml_string"
            raise ValueError(f"{', '.join(misplaced)} can only be given together with {owner}")
        return self


def predict_request_from_json(raw: bytes | bytearray) -> PredictRequest:
    """Parse a body; not for the event loop, since it may hold megabytes.

    Raises:
        RequestError: naming the fields, and what is expected of them.
    """
    try:
        return PredictRequest.model_validate_json(raw)
    except pydantic.ValidationError as error:
        raise request_error_from_validation(error.errors(include_input=False)) from error


def request_error_from_validation(problems: Sequence[Any]) -> RequestError:
    """Say in one sentence what pydantic found, without repeating what was sent."""
    named = [_sentence(problem) for problem in problems[:_MAX_PROBLEMS_NAMED]]
    if len(problems) > len(named):
        named.append(f"and {len(problems) - len(named)} more")
    unknown = [problem["loc"] for problem in problems if problem["type"] == "extra_forbidden"]
    fields = (StateBody if unknown and unknown[0][0] == "state" else PredictRequest).model_fields
    return RequestError("; ".join(named), hint=f"fields known here: {', '.join(fields)}" if unknown else None)


def _sentence(problem: Any) -> str:
    where = ".".join(str(part)[:80] for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown field '{where}'"
    what = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {what}" if where else what


def task_from_body(body: PredictRequest, max_pixels: int) -> Task:
    """Return the task, its goal images decoded."""
    encoded = {
        "primary": ("goal_image", body.goal_image),
        "wrist": ("goal_image_wrist", body.goal_image_wrist),
    }
    goals = {name: decode_image(text, field, max_pixels) for name, (field, text) in encoded.items() if text is not None}
    return Task(instruction=body.instruction if body.instruction.strip() else None, goal_images=goals)


def render_request_from_body(body: PredictRequest, *, with_wrist: bool) -> RenderRequest:
    """Return what the scene workers are to render; `with_wrist` says whether the policy has that camera."""
    assert body.xml_string is not None
    state = body.state
    return RenderRequest(
        scene=Scene(xml=body.xml_string, assets={name: _asset(name, text) for name, text in body.assets.items()}),
        state=SceneState(
            qpos=_array(state.qpos),
            qvel=_array(state.qvel),
            ctrl=_array(state.ctrl),
            mocap_pos=_array(state.mocap_pos, 3),
            mocap_quat=_array(state.mocap_quat, 4),
            keyframe=state.keyframe,
        ),
        camera=body.camera,
        wrist_camera=body.wrist_camera if with_wrist else "",
    )


def _asset(name: str, text: str) -> bytes:
    try:
        return decode_base64(text)
    except ValueError as error:
        raise RequestError(f"asset '{name[:80]}' is not base64") from error


def _array(numbers: list | None, columns: int | None = None) -> np.ndarray | None:
    if numbers is None:
        return None
    array = np.array(numbers, np.float64)
    return array.reshape(-1, columns) if columns else array
