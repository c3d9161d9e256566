"""The messages of a recording, as JSON, and the schemas by which other tools show them.

A session `arm-1` has the topics `/arm-1/step`, `/arm-1/images/CAMERA`, `/arm-1/goal/CAMERA`, `/arm-1/state`,
`/arm-1/refused` and `/arm-1/lost`; `/server` says what served it. Images are PNG: the pixels that the policy got.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from vla_server_base.contract import Image
from vla_server_base.request_inputs import encode_png
from vla_server_base.sessions.recorded_step import RecordedStep
from vla_server_base.sessions.settings import SessionSettings

VERSION = "1"
REPLAY_PREFIX = "replay-"
"""How the ids of sessions begin that `replay` makes; it does not send them again where they were recorded."""


@dataclass(frozen=True, kw_only=True)
class Timestamp:
    """A time since 1970, as Foxglove's schemas have it."""

    sec: int
    nsec: int


@dataclass(frozen=True, kw_only=True)
class StepMessage:
    """A step as it was answered; docs/recording.md describes the fields.

    `turn` counts the session's steps. One that `continues` follows from the step before it in the recording; any other
    begins its episode (`begins`), or has the session's state in a message before it.
    """

    timestamp: Timestamp
    turn: int
    continues: bool
    begins: bool
    request_id: str
    client: str
    protocol: str
    episode: int
    step: int
    seed: int
    sequence: int | None
    obs_time: float | None
    deadline_ms: float | None
    reset: bool
    instruction: str | None
    cameras: tuple[str, ...]
    goal_cameras: tuple[str, ...]
    proprio: tuple[float, ...] | None
    settings: SessionSettings
    inference_delay: int | None
    action: tuple[float, ...]
    action_names: tuple[str, ...]
    action_units: tuple[str, ...]
    actions: tuple[tuple[float, ...], ...]
    asked_policy: bool
    queue_ms: float
    infer_ms: float
    total_ms: float


def step_message(step: RecordedStep, turn: int, *, continues: bool) -> bytes:
    """Return the message of an answered step."""
    request, result, proprio = step.request, step.result, step.observation.proprio
    assert result is not None, "a refusal has a message of its own"
    message = StepMessage(
        timestamp=timestamp(step.time),
        turn=turn,
        continues=continues,
        begins=step.begins_episode,
        request_id=step.request_id,
        client=step.client,
        protocol=step.protocol,
        episode=step.episode,
        step=result.step,
        seed=result.seed,
        sequence=request.sequence,
        obs_time=request.obs_time,
        deadline_ms=request.deadline_ms,
        reset=request.reset,
        instruction=request.task.instruction,
        cameras=tuple(step.observation.images),
        goal_cameras=tuple(request.task.goal_images),
        proprio=None if proprio is None else tuple(proprio.tolist()),
        settings=step.settings,
        inference_delay=result.inference_delay,
        action=tuple(result.action.action.tolist()),
        action_names=result.action.action_names,
        action_units=result.action.action_units,
        actions=tuple(map(tuple, result.action.actions.tolist())),
        asked_policy=result.asked_policy,
        queue_ms=round(result.queue_ms, 3),
        infer_ms=round(result.infer_ms, 3),
        total_ms=round(step.total_ms, 3),
    )
    return msgspec.json.encode(message)


def image_message(image: Image, camera: str, time: float) -> bytes:
    """Return an image as Foxglove's CompressedImage."""
    content = {"timestamp": timestamp(time), "frame_id": camera, "format": "png", "data": encode_png(image)}
    return msgspec.json.encode(content)


def state_message(step: RecordedStep) -> bytes:
    """Return where the session was before a step: what a session token holds."""
    content = {
        "timestamp": timestamp(step.time),
        "settings": step.settings,
        "progress": step.before,
    }
    return msgspec.json.encode(content, enc_hook=_from_array)


def refusal_message(step: RecordedStep) -> bytes:
    """Return the message of a step that was refused."""
    error = step.error
    content = {
        "timestamp": timestamp(step.time),
        "request_id": step.request_id,
        "code": getattr(error, "code", "internal"),
        "message": str(getattr(error, "message", type(error).__name__)),
        "sequence": step.request.sequence,
        "obs_time": step.request.obs_time,
        "total_ms": round(step.total_ms, 3),
    }
    return msgspec.json.encode(content)


def loss_message(num_steps: int, time: float) -> bytes:
    """Return the message that marks a gap."""
    return msgspec.json.encode({"timestamp": timestamp(time), "num_steps": num_steps})


def timestamp(time: float) -> Timestamp:
    """Return a time in seconds since 1970 in whole seconds and the nanoseconds of the last one."""
    nanoseconds = int(time * 1e9)
    return Timestamp(sec=nanoseconds // 10**9, nsec=nanoseconds % 10**9)


def _from_array(array: object) -> dict[str, Any]:
    if isinstance(array, np.ndarray):
        return {"dtype": array.dtype.str, "shape": array.shape, "data": array.tobytes()}
    raise NotImplementedError(type(array))


_TIME = {"type": "object", "title": "time", "properties": {"sec": {"type": "integer"}, "nsec": {"type": "integer"}}}
_NUMBER, _TEXT = {"type": "number"}, {"type": "string"}


def _schema(title: str, **properties: Mapping[str, Any]) -> bytes:
    content = {"title": title, "type": "object", "properties": {"timestamp": _TIME, **properties}}
    return msgspec.json.encode(content)


SCHEMAS: Mapping[str, bytes] = {
    # https://docs.foxglove.dev/docs/sdk/schemas/compressed-image
    "foxglove.CompressedImage": _schema(
        "foxglove.CompressedImage",
        frame_id=_TEXT,
        data={"type": "string", "contentEncoding": "base64"},
        format=_TEXT,
    ),
    "vla.Step": _schema(
        "vla.Step",
        turn=_NUMBER,
        step=_NUMBER,
        seed=_NUMBER,
        episode=_NUMBER,
        instruction=_TEXT,
        request_id=_TEXT,
        proprio={"type": "array", "items": _NUMBER},
        action={"type": "array", "items": _NUMBER},
        action_names={"type": "array", "items": _TEXT},
        actions={"type": "array", "items": {"type": "array", "items": _NUMBER}},
        queue_ms=_NUMBER,
        infer_ms=_NUMBER,
        total_ms=_NUMBER,
    ),
    "vla.State": _schema("vla.State", settings={"type": "object"}, progress={"type": "object"}),
    "vla.Refusal": _schema("vla.Refusal", request_id=_TEXT, code=_TEXT, message=_TEXT, total_ms=_NUMBER),
    "vla.Loss": _schema("vla.Loss", num_steps=_NUMBER),
    "vla.Server": _schema("vla.Server", model=_TEXT),
}
"""JSON schemas, by name."""
