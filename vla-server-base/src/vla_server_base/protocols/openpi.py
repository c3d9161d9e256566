"""openpi's WebSocket protocol, and RoboArena's on the same path: MessagePack, an observation for a chunk of actions.

The server speaks first, with what it serves. Each message then is an observation, a map of named values, and is
answered with `actions`, from the one to execute now on; errors are text, which the clients raise. RoboArena's clients
say `endpoint`: "infer" or "reset". Follows openpi_client/websocket_client_policy.py of Physical-Intelligence/openpi.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from vla_server_base.contract import PolicySpec
from vla_server_base.errors import ProtocolError, VLAError
from vla_server_base.protocols.message_pack import pack, unpack
from vla_server_base.protocols.observations import KNOWN_KEYS, MessageFields, ObservationReader
from vla_server_base.timing import Stopwatch
from vla_server_base.turn import EpisodeRequest, TurnReply, TurnRequest
from vla_server_base.wire.body import body_from_values

RESET_DONE = "reset successful"


def greeting(spec: PolicySpec, keys: Mapping[str, Any] = KNOWN_KEYS) -> bytes:
    """Return the first frame: what is served, and what RoboArena's clients want to know of it."""
    named = (*spec.camera_names, "instruction")
    cameras = [{"name": camera.name, "height": camera.height, "width": camera.width} for camera in spec.cameras]
    return pack(
        {
            "server": "vla-servers",
            "model": spec.model,
            "revision": spec.revision,
            "weights": spec.weights,
            "cameras": cameras,
            "observation_keys": {name: list(keys[name]) for name in named if name in keys},
            "window": spec.window,
            "action_horizon": spec.horizon,
            "action_dim": spec.action_dim,
            "action_names": list(spec.action_names),
            "action_units": list(spec.action_units),
            "datasets": list(spec.datasets),
            "default_dataset": spec.default_dataset,
            # RoboArena's PolicyServerConfig.
            "image_resolution": [spec.cameras[0].height, spec.cameras[0].width],
            "n_external_cameras": 1,
            "needs_wrist_camera": False,
            "needs_stereo_camera": False,
            "needs_session_id": False,
            "action_space": "cartesian_velocity",
        },
        as_bytes_keys=True,
    )


def read(frame: bytes | str, reader: ObservationReader) -> TurnRequest | EpisodeRequest:
    """Return what a frame asks for; not for the event loop.

    Raises:
        ProtocolError, RequestError: naming what the policy takes.
    """
    message = unpack(frame)
    if not isinstance(message, dict):
        raise ProtocolError(f"the message is {type(message).__name__}, not a map of named values")
    endpoint = message.get("endpoint", "infer")
    if endpoint == "reset":
        return body_from_values(MessageFields, message).episode
    if endpoint != "infer":
        raise ProtocolError(f"endpoint '{str(endpoint)[:40]}' is not known", hint="infer and reset are")
    return reader.turn(message)


def write(reply: TurnReply, watch: Stopwatch) -> bytes:
    """Return the frame that answers an observation, with its times.

    `actions` is the only array in it: openpi's ActionChunkBroker cuts every array along its first axis.
    """
    answer = reply.answer
    actions = msgspec.Raw(pack(answer.action.actions, as_bytes_keys=True))
    watch.lap("write")
    timing_ms = watch.timing_ms(queue=answer.queue_ms, infer=answer.infer_ms)
    return pack(
        {
            "actions": actions,
            "server_timing": {f"{name}_ms": ms for name, ms in timing_ms.items()},
            "policy_timing": {"infer_ms": answer.infer_ms},
            "session": reply.session.model_dump(exclude_unset=True) | {"seed": answer.seed},
        },
        as_bytes_keys=True,
    )


def write_error(error: VLAError, request_id: str) -> str:
    """Return the text that a client raises."""
    return error.as_text(request_id)
