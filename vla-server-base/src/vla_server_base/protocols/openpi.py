"""openpi's WebSocket protocol, and RoboArena's on the same path: MessagePack, an observation for a chunk of actions.

The server speaks first, with what it serves. Each message then is an observation, a map of named values, and is
answered with `actions`, from the one to execute now on; errors are text, which the clients raise. RoboArena's clients
say `endpoint`: "infer" or "reset". Follows openpi_client/websocket_client_policy.py of Physical-Intelligence/openpi.
"""

from dataclasses import dataclass

import msgspec

from vla_client.message_pack import ArrayForm, pack, unpack_with_form
from vla_server_base.errors import ProtocolError, VLAError
from vla_server_base.protocols.named_values import is_one_of
from vla_server_base.protocols.observations import ObservationReader
from vla_server_base.protocols.stopwatch import Stopwatch
from vla_server_base.sessions.step import EpisodeRequest, TurnReply, TurnRequest

RESET_DONE = "reset successful"


@dataclass(frozen=True, kw_only=True)
class Infer:
    """A turn, and in which form its client has arrays."""

    turn: TurnRequest
    form: ArrayForm


def greeting(reader: ObservationReader) -> bytes:
    """Return the first frame: what is served, and what RoboArena's clients want to know of it."""
    spec = reader.spec
    named = (*spec.camera_names, "instruction")
    cameras = [{"name": camera.name, "height": camera.height, "width": camera.width} for camera in spec.cameras]
    return pack(
        {
            "server": "vla-servers",
            "model": spec.model,
            "revision": spec.revision,
            "weights": spec.weights,
            "cameras": cameras,
            "observation_keys": {name: list(reader.keys_of(name)) for name in named},
            "default_instruction": reader.default_instruction or None,
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
        "bytes_keys",
    )


def read(frame: bytes | str, reader: ObservationReader) -> Infer | EpisodeRequest:
    """Return what a frame asks for; not for the event loop.

    Raises:
        ProtocolError, RequestError: naming what the policy takes.
    """
    message, form = unpack_with_form(frame)
    if not isinstance(message, dict):
        raise ProtocolError(f"the message is {type(message).__name__}, not a map of named values")
    endpoint = message.get("endpoint", "infer")
    if not is_one_of(endpoint, ("infer", "reset")):
        raise ProtocolError(f"endpoint '{str(endpoint)[:40]}' is not known", hint="infer and reset are")
    if endpoint == "reset":
        return reader.episode(message)
    return Infer(turn=reader.turn(message), form=form or "bytes_keys")


def write(reply: TurnReply, request: Infer, watch: Stopwatch) -> bytes:
    """Return the frame that answers an observation, with its times, arrays in the form that it was asked in.

    `actions` is the only array in it: openpi's ActionChunkBroker cuts every array along its first axis.
    """
    answer = reply.answer
    actions = msgspec.Raw(pack(answer.action.actions, request.form))
    watch.lap("write")
    timing_ms = watch.timing_ms(queue=answer.queue_ms, infer=answer.infer_ms)
    return pack(
        {
            "actions": actions,
            "server_timing": {f"{name}_ms": ms for name, ms in timing_ms.items()},
            "policy_timing": {"infer_ms": answer.infer_ms},
            "session": reply.session.model_dump(exclude_unset=True) | {"seed": answer.seed},
        },
        request.form,
    )


def write_error(error: VLAError, request_id: str) -> str:
    """Return the text that a client raises."""
    return error.as_text(request_id)
