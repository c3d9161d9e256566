"""GR00T's protocol: MessagePack over ZeroMQ, one request and one reply at a time.

A request is a map of `endpoint` and `data`. Its clients differ by release, and each gets replies in its own form:

| release | an array | `data` of `get_action` | the reply |
|---|---|---|---|
| N1.5 | a .npy file | the observation, flat: "video.front" | flat: "action.x", (horizon, 1) |
| N1.6 | a .npy file | `observation` and `options` | actions (1, horizon, 1) and information about the session |
| N1.7 | a map of msgpack-numpy's | the same | the same |

An observation has `video`, `state` and `language`, of one robot and one or more timesteps, in nested maps or under flat
names. Each number of the action is a separate array, named as in the policy. Follows gr00t/eval/service.py
(N1.5) and gr00t/policy/server_client.py (since N1.6) of NVIDIA/Isaac-GR00T.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np

from vla_client.message_pack import pack, unpack_with_form
from vla_server_base.contract import PolicySpec
from vla_server_base.episodes.policies import ARM_ACTION
from vla_server_base.errors import ProtocolError, VLAError
from vla_server_base.protocols.gr00t_request import Endpoint, Gr00tRequest, map_of_values
from vla_server_base.protocols.message_fields import MessageFields
from vla_server_base.protocols.named_values import is_one_of
from vla_server_base.protocols.observations import ObservationReader
from vla_server_base.protocols.stopwatch import Stopwatch
from vla_server_base.schemas.session_reply import session_reply
from vla_server_base.sessions.requests import EpisodeRequest, StepRequest, StepResult

PONG = pack({"status": "ok", "message": "Server is running"})
RESET_DONE = pack({"status": "ok"})
# Of the end effector's pose, as GR00T's own single-arm embodiments have them.
ARM_KEYS = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
TASK = "annotation.human.action.task_description"
_DATA = {"get_action": ("observation", "options"), "reset": ("options",)}


def read(message: bytes) -> Gr00tRequest:
    """Parse a message; not for the event loop.

    Raises:
        ProtocolError: it is not a message of GR00T's, or asks for something unsupported.
    """
    content, form = unpack_with_form(message)
    content = map_of_values(content, "the message")
    endpoint = content.get("endpoint", "get_action")
    if is_one_of(endpoint, ["kill"]):
        raise ProtocolError("a client cannot end this server", hint="stop it on the machine where it runs")
    if not is_one_of(endpoint, get_args(Endpoint)):
        known = ", ".join(get_args(Endpoint))
        raise ProtocolError(f"endpoint '{str(endpoint)[:40]}' is not known", hint=f"available: {known}")
    data, token = content.get("data"), content.get("api_token")
    request = Gr00tRequest(
        endpoint=endpoint,
        data={} if data is None else map_of_values(data, "data"),
        form=form or "npy",
        api_token=token if isinstance(token, str) else "",
    )
    _check_data(request)
    return request


def read_reset(request: Gr00tRequest, reader: ObservationReader) -> EpisodeRequest:
    """Return the episode that a reset begins.

    Raises:
        RequestError: naming the invalid field.
    """
    return reader.episode(_options(request), executes_chunks=True)


def read_observation(request: Gr00tRequest, reader: ObservationReader) -> StepRequest:
    """Return the step that an observation asks for; not for the event loop.

    Raises:
        ProtocolError, RequestError: naming what the policy takes.
    """
    named = {name: value for name, value in _flat_observation(request).items() if name != "options"}
    states = [_now(value, name, ndim=1) for name, value in named.items() if name.startswith("state.")]
    videos = {name: _now(value, name, ndim=3) for name, value in named.items() if name.startswith("video.")}
    instructions = [value for name, value in named.items() if name.startswith(("language.", "annotation."))]
    return reader.step(
        {
            **_options(request),
            **named,
            **videos,
            **({"proprio": np.concatenate(states)} if states else {}),
            # Its name does not matter where there is only one.
            **({"instruction": instructions[0]} if len(instructions) == 1 else {}),
        },
        executes_chunks=True,
    )


def write(result: StepResult, request: Gr00tRequest, watch: Stopwatch) -> bytes:
    """Return the reply: the actions from the one to execute now on; since N1.6 also the session, seed and times."""
    action = result.action
    keys = action_keys(action.actions.shape[-1])
    prefix = "action." if request.is_flat else ""
    numbers = action.actions.astype(np.float32).T[..., None]
    columns = numbers if request.lacks_robot_axis else numbers[:, None]
    actions = {prefix + key: column for key, column in zip(keys, columns, strict=True)}
    if request.is_bare:
        return pack(actions, request.form)
    watch.lap("write")
    info = session_reply(result).model_dump(exclude_unset=True) | {
        "seed": result.seed,
        "timing_ms": watch.timing_ms(queue=result.queue_ms, infer=result.infer_ms),
    }
    return pack([actions, info], request.form)


def write_modality_config(spec: PolicySpec, *, as_text: bool = False) -> bytes:
    """Return the policy's inputs and outputs: one timestep at a time, because the server keeps the window.

    N1.5's clients read it from JSON text, later ones from a map; neither accepts the other.
    """

    def modality(delta_indices: Sequence[int], keys: Sequence[str]) -> dict[str, Any]:
        config = {"delta_indices": list(delta_indices), "modality_keys": list(keys)}
        return {"__ModalityConfig_class__": True, "as_json": json.dumps(config) if as_text else config}

    configs = {
        "video": modality([0], spec.camera_names),
        "state": modality([0], ["proprio"] if spec.proprio_dim else []),
        "action": modality(range(spec.horizon), action_keys(spec.action_dim)),
        "language": modality([0], [TASK] if spec.takes_instruction else []),
    }
    return pack(configs)


def write_error(error: VLAError, request_id: str) -> bytes:
    """Return the reply that a client raises."""
    return pack({"error": error.as_text(request_id)})


def action_keys(action_dim: int) -> tuple[str, ...]:
    """Return the names of an action's numbers."""
    return ARM_KEYS if action_dim == len(ARM_ACTION) else tuple(f"action_{number}" for number in range(action_dim))


def _check_data(request: Gr00tRequest) -> None:
    """Refuse fields that GR00T's own servers refuse too: other than observation and options."""
    unknown = sorted(request.data.keys() - _DATA.get(request.endpoint, request.data))
    if unknown and not request.is_bare:
        known = ", ".join(_DATA[request.endpoint])
        raise ProtocolError(f"data: '{unknown[0][:40]}' is not known", hint=f"{request.endpoint} takes: {known}")


def _options(request: Gr00tRequest) -> Mapping[str, Any]:
    """Return the fields other than the observation, which are those of a session."""
    content = request.data.get("options")
    options = {} if content is None else map_of_values(content, "options")
    unknown = sorted(options.keys() - MessageFields.model_fields)
    if unknown:
        known = ", ".join(MessageFields.model_fields)
        raise ProtocolError(f"options: '{unknown[0][:40]}' is not known", hint=f"available: {known}")
    return options


def _flat_observation(request: Gr00tRequest) -> Mapping[str, Any]:
    if request.is_flat:
        return request.observation
    groups = {name: map_of_values(group, name) for name, group in request.observation.items()}
    return {f"{name}.{key}": value for name, group in groups.items() for key, value in group.items()}


def _now(value: Any, name: str, ndim: int) -> np.ndarray:
    """Return the newest timestep of (1, timesteps, ...), (timesteps, ...) or (...)."""
    if not isinstance(value, np.ndarray):
        raise ProtocolError(f"{name}: expected an array, got {type(value).__name__}", hint="send a numpy array")
    array = value
    if array.ndim == ndim + 2:
        if len(array) != 1:
            raise ProtocolError(
                f"{name}: expected one robot, got {len(array)}", hint="open a connection for each robot"
            )
        array = array[0]
    if array.ndim == ndim + 1 and len(array):
        array = array[-1]
    if array.ndim != ndim:
        raise ProtocolError(
            f"{name}: unexpected shape {list(array.shape)}", hint=f"send 1 x timesteps x {ndim} more axes"
        )
    return array
