"""openpi's WebSocket protocol, and RoboArena's on the same path: MessagePack, an observation for a chunk of actions.

The server sends the first message: what it serves. Each message of the client is an observation, a map of named values;
the reply has `actions`, from the one to execute now on. Errors are text, which the clients raise. RoboArena's clients
send `endpoint`: "infer" or "reset". Follows openpi_client/websocket_client_policy.py of Physical-Intelligence/openpi.
"""

from dataclasses import asdict, dataclass

import msgspec

from vla_client.message_pack import ArrayForm, pack, unpack_with_form
from vla_server_base.errors import ProtocolError, VLAError
from vla_server_base.protocols.named_values import is_one_of
from vla_server_base.protocols.observations import ObservationReader
from vla_server_base.protocols.stopwatch import Stopwatch
from vla_server_base.schemas.session_reply import session_reply
from vla_server_base.sessions.requests import EpisodeRequest, StepRequest, StepResult

RESET_DONE = "reset successful"


@dataclass(frozen=True, kw_only=True)
class InferRequest:
    """An observation, and the form of its client's arrays."""

    step: StepRequest
    form: ArrayForm


def greeting(reader: ObservationReader) -> bytes:
    """Return the first message: what is served, and the fields that RoboArena's clients read."""
    spec = reader.spec
    named = (*spec.camera_names, "proprio", "instruction")
    cameras = [asdict(camera) for camera in spec.cameras]
    return pack(
        {
            "server": "vla-servers",
            "model": spec.model,
            "revision": spec.revision,
            "weights": spec.weights,
            "cameras": cameras,
            "observation_keys": {name: list(reader.keys_of(name)) for name in named},
            "default_instruction": reader.default_instruction or None,
            "takes_instruction": spec.takes_instruction,
            "requires_proprio": spec.requires_proprio,
            "proprio_dim": spec.proprio_dim,
            "proprio_names": list(spec.proprio_names),
            "proprio_units": list(spec.proprio_units),
            "control_hz": spec.control_hz,
            "window": spec.window,
            "action_horizon": spec.horizon,
            "action_dim": spec.action_dim,
            "action_names": list(spec.action_names),
            "action_units": list(spec.action_units),
            "datasets": list(spec.datasets),
            "default_dataset": spec.default_dataset,
            "execution": spec.execution,
            # RoboArena's PolicyServerConfig.
            "image_resolution": [spec.cameras[0].height, spec.cameras[0].width],
            "n_external_cameras": 1,
            "needs_wrist_camera": any(camera.required and "wrist" in camera.name for camera in spec.cameras),
            "needs_stereo_camera": False,
            "needs_session_id": False,
            "action_space": "cartesian_velocity",
        },
        "bytes_keys",
    )


def read(content: bytes | str, reader: ObservationReader) -> InferRequest | EpisodeRequest:
    """Parse a client's message; not for the event loop.

    Raises:
        ProtocolError, RequestError: naming what the policy takes.
    """
    message, form = unpack_with_form(content)
    if not isinstance(message, dict):
        raise ProtocolError(
            f"the message: expected a map of named values, got {type(message).__name__}",
            hint="send a map with images, an instruction and so on",
        )
    endpoint = message.get("endpoint", "infer")
    if not is_one_of(endpoint, ("infer", "reset")):
        raise ProtocolError(f"endpoint '{str(endpoint)[:40]}' is not known", hint="available: infer, reset")
    if endpoint == "reset":
        return reader.episode(message, executes_chunks=True)
    return InferRequest(step=reader.step(message, executes_chunks=True), form=form or "bytes_keys")


def write(result: StepResult, request: InferRequest, watch: Stopwatch) -> bytes:
    """Return the reply to an observation, with its times, arrays in the client's form.

    `actions` is the only array in it: openpi's ActionChunkBroker cuts every array along its first axis.
    """
    actions = msgspec.Raw(pack(result.action.actions, request.form))
    watch.lap("write")
    timing_ms = watch.timing_ms(queue=result.queue_ms, infer=result.infer_ms)
    return pack(
        {
            "actions": actions,
            "server_timing": {f"{name}_ms": ms for name, ms in timing_ms.items()},
            "policy_timing": {"infer_ms": result.infer_ms},
            "session": session_reply(result).model_dump(exclude_unset=True) | {"seed": result.seed},
        },
        request.form,
    )


def write_error(error: VLAError, request_id: str) -> str:
    """Return the text that a client raises."""
    return error.as_text(request_id)
