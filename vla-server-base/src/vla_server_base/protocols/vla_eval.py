"""vla-evaluation-harness's WebSocket protocol, version 1: MessagePack, one action for each observation.

The client speaks first. A message has `type`, `payload`, `seq` and `timestamp`; an answer has the `seq` of what it
answers. Pictures are arrays, or files of PNG or JPEG. Follows src/vla_eval/protocol and model_servers/serve.py of
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
from vla_server_base.sessions.step import EpisodeRequest, TurnReply, TurnRequest

PROTOCOL_VERSION = 1
Kind = Literal["hello", "episode_start", "observation", "episode_end", "error"]


@dataclass(frozen=True, kw_only=True)
class Message:
    """What a client says, and in which form it has arrays."""

    kind: Kind
    payload: Mapping[str, Any]
    seq: int
    form: ArrayForm


def read(frame: bytes | str) -> Message:
    """Return a frame's message; not for the event loop.

    Raises:
        ProtocolError: it is none.
    """
    content, form = unpack_with_form(frame)
    if not isinstance(content, dict) or not {"type", "payload", "seq"} <= content.keys():
        raise ProtocolError("the message is no map of type, payload and seq")
    kind, payload, seq = content["type"], content["payload"], content["seq"]
    if not is_one_of(kind, get_args(Kind)):
        raise ProtocolError(f"type '{str(kind)[:40]}' is not known", hint=f"known are: {', '.join(get_args(Kind))}")
    if not isinstance(payload, dict) or type(seq) is not int:
        raise ProtocolError("payload is no map, or seq no integer")
    return Message(kind=kind, payload=payload, seq=seq, form=form or "text_keys")


def read_start(message: Message, reader: ObservationReader) -> EpisodeRequest:
    """Return what the start of an episode says of its session.

    Raises:
        RequestError: naming what cannot be.
    """
    return reader.episode(message.payload)


def read_observation(message: Message, reader: ObservationReader) -> TurnRequest:
    """Return the turn that an observation is; not for the event loop.

    Raises:
        ProtocolError, RequestError: naming what the policy takes.
    """
    images = message.payload.get("images", {})
    if not isinstance(images, dict):
        raise ProtocolError("images is no map of pictures by camera")
    pictures = {camera: _picture(image) for camera, image in images.items()}
    first, *others = reader.spec.camera_names
    if len(pictures) == 1 and not _is_of(next(iter(pictures)), others, reader):
        # Benchmarks name their only camera as they like; a known name is of one whose first camera missed this frame.
        pictures = {first: next(iter(pictures.values()))}
    return reader.turn({**message.payload, "images": pictures})


def greeting(spec: PolicySpec, seq: int) -> bytes:
    """Return the answer to a client's hello."""
    payload: dict[str, Any] = {
        "harness_version": __version__,
        "protocol_version": PROTOCOL_VERSION,
        "model_server": f"vla-servers: {spec.model}",
        "capabilities": {},
        "observation_spec": {"image": _spec("image", 0, "rgb_hwc_uint8"), "language": _spec("language", 0, "language")},
    }
    # What benchmarks send on demand; theirs that have no such parameter say so.
    wanted = {"send_wrist_image": "wrist" in spec.camera_names, "send_state": bool(spec.proprio_dim)}
    if any(wanted.values()):
        payload["observation_params"] = {name: True for name, is_wanted in wanted.items() if is_wanted}
    if spec.action_names == ARM_ACTION:
        # A format of our own: the harness compares formats alone, and "delta_xyz" is from -1 to 1 with its benchmarks.
        payload["action_spec"] = {
            "position": _spec("position", 3, "delta_xyz_m", "m"),
            "rotation": _spec("rotation", 3, "euler_xyz", "rad, a change"),
            "gripper": _spec("gripper", 1, "continuous_01", "1 open, 0 closed"),
        }
    return _written("hello", payload, seq)


def write(reply: TurnReply, message: Message, watch: Stopwatch) -> bytes:
    """Return the frame with the action to execute now, and its times."""
    action = msgspec.Raw(pack(reply.answer.action.actions[0].astype(np.float32), message.form))
    watch.lap("write")
    timing_ms = watch.timing_ms(queue=reply.answer.queue_ms, infer=reply.answer.infer_ms)
    told = reply.session.model_dump(include={"notes", "unknown_words"}, exclude_none=True)
    return _written("action", {"actions": action, "timing_ms": timing_ms, **told}, message.seq)


def write_error(error: VLAError, request_id: str, seq: int) -> bytes:
    """Return the frame that a client raises."""
    return _written("error", {"error": error.as_text(request_id)}, seq)


def _written(kind: str, payload: Mapping[str, Any], seq: int) -> bytes:
    return pack({"type": kind, "payload": payload, "seq": seq, "timestamp": time.time()})


def _spec(name: str, dims: int, format_: str, description: str = "") -> dict[str, Any]:
    return {"name": name, "dims": dims, "format": format_, "description": description}


def _is_of(camera: str, cameras: Sequence[str], reader: ObservationReader) -> bool:
    """Return whether a picture's name is a known one of some cameras."""
    return any(bare_key(camera) in map(bare_key, reader.keys_of(name)) for name in cameras)


def _picture(image: Any) -> Any:
    """Return an array, or the bytes of a file, for what stands for a picture."""
    if isinstance(image, dict) and "__image__" in image:
        if image.get("format") == "raw":
            return array_from_bytes(image.get("data"), image.get("dtype"), image.get("shape"))
        return image.get("data")
    return image
