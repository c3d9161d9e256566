"""GR00T's protocol: MessagePack over ZeroMQ, one request and one reply at a time.

A request is a map of `endpoint` and `data`; an array is the bytes of a .npy file. Observations come as `video`,
`state` and `language`, of one robot and one or more timesteps, in nested maps or, from older clients, under names such
as "video.primary"; actions go back as they came, one array (1, horizon, 1) for each number. Follows
gr00t/policy/server_client.py of NVIDIA/Isaac-GR00T.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from vla_server_base.contract import PolicySpec
from vla_server_base.errors import ProtocolError, VLAError
from vla_server_base.policies import ARM_ACTION
from vla_server_base.protocols.arrays import array_from_bytes
from vla_server_base.protocols.message_pack import pack, unpack
from vla_server_base.protocols.observations import MessageFields, ObservationReader
from vla_server_base.timing import Stopwatch
from vla_server_base.turn import TurnReply, TurnRequest
from vla_server_base.wire.body import body_from_values

Endpoint = Literal["get_action", "reset", "ping", "get_modality_config"]
PONG = pack({"status": "ok", "message": "Server is running"})
RESET_DONE = pack({"status": "ok"})
# Of the end effector's pose, as GR00T's own single-arm embodiments have them.
ARM_KEYS = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
TASK = "annotation.human.action.task_description"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a client asks, with what it says to it."""

    endpoint: Endpoint
    data: Mapping[str, Any]

    @property
    def options(self) -> Mapping[str, Any]:
        """What is said beside the observation: fields of a session."""
        return _map(self.data.get("options") or {}, "options")

    @property
    def is_flat(self) -> bool:
        """Whether the observation is in the words of older clients."""
        return any(str(key).startswith("video.") for key in _map(self.data.get("observation", {}), "observation"))


def read(message: bytes) -> Request:
    """Return what a message asks; not for the event loop.

    Raises:
        ProtocolError: it is none, or asks for what is not done here.
    """
    content = _map(unpack(message), "the message")
    endpoint = content.get("endpoint", "get_action")
    if endpoint == "kill":
        raise ProtocolError("a client may not end this server", hint="end it where it runs")
    if endpoint not in get_args(Endpoint):
        known = ", ".join(get_args(Endpoint))
        raise ProtocolError(f"endpoint '{str(endpoint)[:40]}' is not known", hint=f"known are: {known}")
    return Request(endpoint=endpoint, data=_map(content.get("data") or {}, "data"))


def read_reset(request: Request) -> MessageFields:
    """Return what a reset says of its session.

    Raises:
        RequestError: naming what cannot be.
    """
    return body_from_values(MessageFields, request.options)


def read_observation(request: Request, reader: ObservationReader) -> TurnRequest:
    """Return the turn that an observation is; not for the event loop.

    Raises:
        ProtocolError, RequestError: naming what the policy takes.
    """
    observation = _map(request.data.get("observation"), "observation")
    if not request.is_flat:
        groups = {name: _map(group, name) for name, group in observation.items()}
        observation = {f"{name}.{key}": value for name, group in groups.items() for key, value in group.items()}
    message = {**request.options, "instruction": _instruction(observation)}
    for name, value in observation.items():
        kind, _, key = name.partition(".")
        if kind == "video":
            message[key] = message[name] = _now(value, name, ndim=3)
    states = [_now(value, name, ndim=1) for name, value in observation.items() if name.startswith("state.")]
    if states:
        message["proprio"] = np.concatenate(states)
    return reader.turn(message)


def write(reply: TurnReply, request: Request, watch: Stopwatch) -> bytes:
    """Return the message with the actions from the one to execute now on, its session and its times."""
    action = reply.answer.action
    keys = action_keys(action.actions.shape[-1])
    prefix = "action." if request.is_flat else ""
    actions = {
        prefix + key: _npy(action.actions[None, :, number, None].astype(np.float32)) for number, key in enumerate(keys)
    }
    watch.lap("write")
    info = reply.session.model_dump(exclude_unset=True) | {
        "seed": reply.answer.seed,
        "timing_ms": watch.timing_ms(queue=reply.answer.queue_ms, infer=reply.answer.infer_ms),
    }
    return pack([actions, info])


def write_modality_config(spec: PolicySpec) -> bytes:
    """Return what the policy takes and gives: one timestep at a time, as the server keeps the window itself."""
    states = ["proprio"] if spec.proprio_dim else []
    configs = {
        "video": _modality([0], spec.camera_names),
        "state": _modality([0], states),
        "action": _modality(range(spec.horizon), action_keys(spec.action_dim)),
        "language": _modality([0], [TASK]),
    }
    return pack(configs)


def write_error(error: VLAError, request_id: str) -> bytes:
    """Return the message that a client raises."""
    return pack({"error": error.as_text(request_id)})


def action_keys(action_dim: int) -> tuple[str, ...]:
    """Return what the numbers of an action are called."""
    return ARM_KEYS if action_dim == len(ARM_ACTION) else tuple(f"action_{number}" for number in range(action_dim))


def _modality(delta_indices: Any, keys: Any) -> dict[str, Any]:
    return {
        "__ModalityConfig_class__": True,
        "as_json": {"delta_indices": list(delta_indices), "modality_keys": list(keys)},
    }


def _instruction(observation: Mapping[str, Any]) -> Any:
    """Return the instruction, of one robot and one timestep."""
    found = (value for name, value in observation.items() if name.startswith(("language.", "annotation.")))
    said = next(found, None)
    while isinstance(said, list | np.ndarray) and len(said) == 1:
        said = said[0]
    return said


def _now(value: Any, name: str, ndim: int) -> np.ndarray:
    """Return what one robot sees or is now, of (1, timesteps, ...), (timesteps, ...) or (...)."""
    array = _array(value, name)
    if array.ndim == ndim + 2:
        if len(array) != 1:
            raise ProtocolError(f"{name} is of {len(array)} robots", hint="each robot has a connection of its own")
        array = array[0]
    if array.ndim == ndim + 1 and len(array):
        array = array[-1]
    if array.ndim != ndim:
        raise ProtocolError(f"{name} has the shape {list(array.shape)}", hint="1 x timesteps x ... is taken")
    return array


def _array(value: Any, name: str) -> np.ndarray:
    """Return the array in a .npy file, read-only; numpy itself would allocate whatever its head says."""
    if isinstance(value, np.ndarray):
        return value
    content = value.get("as_npy") if isinstance(value, dict) else None
    if not isinstance(content, bytes):
        raise ProtocolError(f"{name} is no array")
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        read_head = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, is_fortran, dtype = read_head(file)
    except Exception as error:  # a stranger's bytes make the reader of the head raise nearly anything
        raise ProtocolError(f"{name} is no .npy file") from error
    order = shape[::-1] if is_fortran else shape
    array = array_from_bytes(content[file.tell() :], dtype.str, order)
    return array.T if is_fortran else array


def _npy(array: np.ndarray) -> dict[str, Any]:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return {"__ndarray_class__": True, "as_npy": file.getvalue()}


def _map(content: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(content, dict):
        raise ProtocolError(f"{what} is {type(content).__name__}, no map of named values")
    return content
