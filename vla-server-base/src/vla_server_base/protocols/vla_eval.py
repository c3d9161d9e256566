"""vla-evaluation-harness's WebSocket protocol, version 1: MessagePack, one action for each observation.

The client sends the first message. A message has `type`, `payload`, `seq` and `timestamp`; a reply has the `seq` of its
request. Images are arrays, or PNG or JPEG files. Follows src/vla_eval/protocol and model_servers/serve.py of
allenai/vla-evaluation-harness.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import msgspec
import numpy as np

from vla_client.arrays import array_from_bytes
from vla_client.message_pack import ArrayForm, pack, unpack_with_form
from vla_server_base import __version__
from vla_server_base.contract import PolicySpec
from vla_server_base.episodes.policies import ARM_ACTION
from vla_server_base.errors import ProtocolError, VLAError
from vla_server_base.protocols.known_keys import bare_key
from vla_server_base.protocols.named_values import is_one_of
from vla_server_base.protocols.observations import ObservationReader
from vla_server_base.protocols.stopwatch import Stopwatch
from vla_server_base.sessions.requests import EpisodeRequest, StepRequest, StepResult

PROTOCOL_VERSION = 1
MessageKind = Literal["hello", "episode_start", "observation", "episode_end", "error"]


@dataclass(frozen=True, kw_only=True)
class VlaEvalMessage:
    """A client's message, and the form of its arrays."""

    kind: MessageKind
    payload: Mapping[str, Any]
    seq: int
    form: ArrayForm


def read(data: bytes | str) -> VlaEvalMessage:
    """Parse a message; not for the event loop.

    Raises:
        ProtocolError: it is not a message of vla-eval's.
    """
    content, form = unpack_with_form(data)
    if not isinstance(content, dict) or not {"type", "payload", "seq"} <= content.keys():
        raise ProtocolError("the message: expected a map of type, payload and seq", hint="send all three")
    kind, payload, seq = content["type"], content["payload"], content["seq"]
    if not is_one_of(kind, get_args(MessageKind)):
        raise ProtocolError(
            f"type '{str(kind)[:40]}' is not known", hint=f"available: {', '.join(get_args(MessageKind))}"
        )
    if not isinstance(payload, dict) or type(seq) is not int:
        raise ProtocolError("expected payload to be a map and seq an integer", hint="send both as vla-eval does")
    return VlaEvalMessage(kind=kind, payload=payload, seq=seq, form=form or "text_keys")


def read_start(message: VlaEvalMessage, reader: ObservationReader) -> EpisodeRequest:
    """Return the episode that a start begins.

    Raises:
        RequestError: naming the invalid field.
    """
    return reader.episode(message.payload)


def read_observation(message: VlaEvalMessage, reader: ObservationReader) -> StepRequest:
    """Return the step that an observation asks for; not for the event loop.

    Raises:
        ProtocolError, RequestError: naming what the policy takes.
    """
    content = message.payload.get("images", {})
    if not isinstance(content, dict):
        raise ProtocolError(
            f"images: expected a map by camera, got {type(content).__name__}", hint="send images: {camera: image}"
        )
    images = {camera: _image(value) for camera, value in content.items()}
    first, *others = reader.spec.camera_names
    if len(images) == 1 and not _is_of(next(iter(images)), others, reader):
        # Benchmarks give their only camera any name; a known name means that the first camera missed this step.
        images = {first: next(iter(images.values()))}
    return reader.step({**message.payload, "images": images})


def greeting(spec: PolicySpec, seq: int) -> bytes:
    """Return the reply to a client's hello."""
    payload: dict[str, Any] = {
        "harness_version": __version__,
        "protocol_version": PROTOCOL_VERSION,
        "model_server": f"vla-servers: {spec.model}",
        "capabilities": {},
        "observation_spec": {"image": _spec("image", 0, "rgb_hwc_uint8")},
    }
    if spec.takes_instruction:
        payload["observation_spec"]["language"] = _spec("language", 0, "language")
    # Benchmarks send these on demand; those that have no such parameter report it.
    wanted = {
        "send_wrist_image": any("wrist" in name for name in spec.camera_names),
        "send_state": bool(spec.proprio_dim),
    }
    if any(wanted.values()):
        payload["observation_params"] = {name: True for name, is_wanted in wanted.items() if is_wanted}
    if spec.action_names == ARM_ACTION:
        # Not the harness's name: it compares only formats, and "delta_xyz" is from -1 to 1 with its benchmarks.
        payload["action_spec"] = {
            "position": _spec("position", 3, "delta_xyz_m", "m"),
            "rotation": _spec("rotation", 3, "euler_xyz", "rad, a change"),
            "gripper": _spec("gripper", 1, "continuous_01", "1 open, 0 closed"),
        }
    return _written("hello", payload, seq)


def write(result: StepResult, message: VlaEvalMessage, watch: Stopwatch) -> bytes:
    """Return the reply with the action to execute now, and its times."""
    action = msgspec.Raw(pack(result.action.actions[0].astype(np.float32), message.form))
    watch.lap("write")
    timing_ms = watch.timing_ms(queue=result.queue_ms, infer=result.infer_ms)
    remarks = {"notes": list(result.notes), "unknown_words": list(result.unknown_words)}
    remarks = {name: texts for name, texts in remarks.items() if texts}
    return _written("action", {"actions": action, "timing_ms": timing_ms, **remarks}, message.seq)


def write_error(error: VLAError, request_id: str, seq: int) -> bytes:
    """Return the reply that a client raises."""
    return _written("error", {"error": error.as_text(request_id)}, seq)


def _written(kind: str, payload: Mapping[str, Any], seq: int) -> bytes:
    return pack({"type": kind, "payload": payload, "seq": seq, "timestamp": time.time()})


def _spec(name: str, dims: int, format_: str, description: str = "") -> dict[str, Any]:
    return {"name": name, "dims": dims, "format": format_, "description": description}


def _is_of(camera: str, cameras: Sequence[str], reader: ObservationReader) -> bool:
    """Return whether an image's name is a known name of one of the cameras."""
    return any(bare_key(camera) in map(bare_key, reader.keys_of(name)) for name in cameras)


def _image(image: Any) -> Any:
    """Return an image's array, or the bytes of its file."""
    if isinstance(image, dict) and "__image__" in image:
        if image.get("format") == "raw":
            return array_from_bytes(image.get("data"), image.get("dtype"), image.get("shape"))
        return image.get("data")
    return image
