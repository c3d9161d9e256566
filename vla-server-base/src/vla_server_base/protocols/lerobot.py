"""LeRobot's asynchronous inference: pickled observations in chunks, for a pickled list of timed actions.

The messages are protobuf's (`lerobot_protobuf`). Their payloads are pickled: `RemotePolicyConfig`, then
`TimedObservation`, whose reply is a list of `TimedAction`; the client's torch turns its actions into tensors. Follows
transport/services.proto, async_inference/robot_client.py and policy_server.py of huggingface/lerobot 0.4 to 0.6.
"""

import pickle
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vla_server_base.contract import PolicySpec
from vla_server_base.errors import ProtocolError, RequestError
from vla_server_base.protocols.lerobot_protobuf import MESSAGES, ChunkedMessage, parse
from vla_server_base.protocols.observations import ObservationReader
from vla_server_base.protocols.unpickling import unpickle
from vla_server_base.protocols.unsupported import refuse_unsupported
from vla_server_base.schemas.base import body_from_values
from vla_server_base.schemas.lerobot import ObservationFields, SetupFields
from vla_server_base.sessions.continued_chunk import CONTINUED
from vla_server_base.sessions.requests import StepRequest, StepResult

SERVICE = "transport.AsyncInference"
FPS = 30.0
"""LeRobot's default, for a policy that has no `control_hz`: clients log the times that follow from it."""
_STATE = "observation.state"
_IMAGES = "observation.images."


@dataclass(frozen=True, kw_only=True)
class LerobotSetup:
    """What a client asks for; the model that it names is only logged, never loaded.

    `renamed` maps the robot's cameras to the policy's, `state_names` orders the robot's numbers.
    """

    named_model: str = ""
    actions_per_chunk: int | None = None
    state_names: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TimedStep:
    """An observation as a step, and what its reply repeats of it; `module` has the client's record classes."""

    request: StepRequest
    timestamp: float
    timestep: int
    must_go: bool
    module: str


def read_setup(message: bytes) -> LerobotSetup:
    """Parse a PolicySetup; not for the event loop.

    Raises:
        ProtocolError, RequestError: naming the invalid field.
    """
    record = unpickle(parse("PolicySetup", message).data, "RemotePolicyConfig")
    refuse_unsupported((name, value) for name, value in record.fields.items() if name not in SetupFields.model_fields)
    if record.fields.get("inference_delay") is not None:
        raise RequestError(
            "inference_delay: it is of one observation, not of the setup", hint="send it in each TimedObservation"
        )
    fields = body_from_values(SetupFields, record.fields)
    state = fields.lerobot_features.get(_STATE)
    names = state.get("names") if isinstance(state, dict) else None
    return LerobotSetup(
        named_model=f"{fields.policy_type} {fields.pretrained_name_or_path}",
        actions_per_chunk=fields.actions_per_chunk,
        state_names=tuple(name for name in names if isinstance(name, str)) if isinstance(names, list | tuple) else (),
        renamed=fields.rename_map,
    )


def read_observation(message: ChunkedMessage, reader: ObservationReader, setup: LerobotSetup) -> TimedStep:
    """Return the step that an observation asks for; not for the event loop.

    Raises:
        ProtocolError, ImageError, InstructionError, RequestError: naming what the policy takes.
    """
    record = unpickle(message.joined(), "TimedObservation")
    refuse_unsupported(record.fields.items())
    fields = body_from_values(ObservationFields, record.fields)
    # Its timesteps say what is left of the last chunk, which a server may continue by default.
    executes_chunks = reader.spec.execution not in CONTINUED
    place = {
        "sequence": fields.timestep,
        "obs_time": fields.timestamp,
        "inference_delay": fields.inference_delay,
    }
    # The client executes chunks itself. Its timesteps say how far, so that the next chunk can continue the last one.
    executes_chunks = reader.spec.execution not in CONTINUED
    return TimedStep(
        request=reader.step(
            _named_values(fields.observation, setup, reader.spec) | place, executes_chunks=executes_chunks
        ),
        timestamp=fields.timestamp,
        timestep=fields.timestep,
        must_go=fields.must_go,
        module=record.module,
    )


def write_actions(step: TimedStep, result: StepResult, setup: LerobotSetup, spec: PolicySpec) -> bytes:
    """Return the Actions message that replies to an observation: an action for each timestep from its own on.

    Their number is the client's `actions_per_chunk`, else what the policy's `spec` executes of a chunk.
    """
    by_default = spec.execution_horizon if spec.execution == "chunk" else spec.horizon
    rows = result.action.actions[: setup.actions_per_chunk or by_default]
    period_s = 1 / (spec.control_hz or FPS)
    timed = [
        _called(
            (step.module, "TimedAction"),
            _float(step.timestamp + ahead * period_s),
            _int(step.timestep + ahead),
            _called(("torch", "tensor"), _list(_float(number) for number in row)),
        )
        for ahead, row in enumerate(rows)
    ]
    return MESSAGES["Actions"](data=pickle.PROTO + b"\x03" + _list(timed) + pickle.STOP).SerializeToString()


def _named_values(observation: Mapping[str, Any], setup: LerobotSetup, spec: PolicySpec) -> dict[str, Any]:
    """Return only images, state and instruction, as an ObservationReader takes them.

    The state is in the policy's order if its numbers have the policy's names, else in the client's.
    """
    numbers = {name: value for name, value in observation.items() if type(value) in (int, float)}
    images: dict[str, Any] = {}
    for name, value in observation.items():
        if not isinstance(value, np.ndarray | bytes):
            continue
        renamed = setup.renamed.get(_IMAGES + name, name)
        if renamed in images:
            raise ProtocolError(
                f"{name} and another camera are both renamed to {renamed}", hint="give each its own name in rename_map"
            )
        images[renamed] = value
    names = setup.state_names or tuple(numbers)
    state = [numbers[name] for name in _in_order(names, spec.proprio_names) if name in numbers]
    return {**({_STATE: state} if state else {}), **images, "task": observation.get("task")}


def _in_order(names: tuple[str, ...], own: tuple[str, ...]) -> tuple[str, ...]:
    """Return a client's names in the policy's `own` order, or as they are if the policy has other names for them all.

    Raises:
        RequestError: the policy has some of them, and others that the client lacks.
    """
    missing, others = ([name for name in own if name not in names], [name for name in names if name not in own])
    if not missing and not others:
        return own
    if missing and len(missing) < len(own):
        raise RequestError(
            f"the robot's state lacks {', '.join(missing)} of the policy's"
            + (f", and has {', '.join(others)} instead" if others else ""),
            hint=f"send {', '.join(own)}, or set the service's names of the state to the robot's",
        )
    return names


def _called(named: tuple[str, str], *arguments: bytes) -> bytes:
    """Return opcodes that make an unpickler call a function by its name, with pickled arguments."""
    module, name = named
    called = pickle.GLOBAL + f"{module}\n{name}\n".encode()
    return called + pickle.MARK + b"".join(arguments) + pickle.TUPLE + pickle.REDUCE


def _list(items: Iterable[bytes]) -> bytes:
    return pickle.MARK + b"".join(items) + pickle.LIST


def _float(number: float) -> bytes:
    return pickle.BINFLOAT + struct.pack(">d", number)


def _int(number: int) -> bytes:
    return pickle.LONG1 + b"\x08" + struct.pack("<q", number)
