"""OpenVLA's `POST /act`, with what AutoEval, OpenVLA-OFT and Berkeley's old Octo server made of it: JSON with arrays.

A message is an observation with its instruction. Clients that cannot send arrays send it as one string, `encoded`, and
get the reply as one. OpenVLA's and AutoEval's clients get one action; OFT's, which send `full_image`, a list of them,
the chunk. Clients of the old Octo server send everything to `/query` in `use_this`. Follows vla-scripts/deploy.py of
openvla/openvla and of moojink/openvla-oft, policy_clients.py of zhouzypaul/auto_eval and octo_server_model.py of
simpler-env/SimplerEnv.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vla_server_base.errors import ProtocolError
from vla_server_base.protocols.json_numpy import dumps, loads
from vla_server_base.protocols.named_values import is_one_of
from vla_server_base.protocols.observations import ObservationReader
from vla_server_base.sessions.requests import EpisodeRequest, StepRequest, StepResult

ActForm = Literal["action", "chunk"]


@dataclass(frozen=True, kw_only=True)
class ActRequest:
    """An observation, the form of the reply's actions, and whether the reply is JSON in a string."""

    step: StepRequest
    form: ActForm
    is_encoded: bool


def read_act(body: bytes, reader: ObservationReader) -> ActRequest:
    """Parse a body of `/act`; not for the event loop.

    Raises:
        ProtocolError, RequestError: naming what the policy takes.
    """
    message = _map_from(body)
    is_encoded = message.keys() == {"encoded"}
    if is_encoded:
        message = _map_from(message["encoded"])
    form: ActForm = "chunk" if "full_image" in message else "action"
    return ActRequest(step=reader.step(message, executes_chunks=form == "chunk"), form=form, is_encoded=is_encoded)


def read_query(body: bytes, reader: ObservationReader) -> ActRequest:
    """Parse a body of `/query`; not for the event loop.

    Raises:
        ProtocolError, RequestError: naming what the policy takes.
    """
    message = _map_from(_map_from(body).get("use_this"))
    modality, ensemble = message.get("modality", "l"), message.get("ensemble", False)
    if not is_one_of(modality, ("l",)):
        raise ProtocolError("modality: expected 'l', an instruction", hint="send goal images to POST /predict")
    observation = message.get("observation")
    if not isinstance(observation, dict):
        raise ProtocolError(
            "use_this: expected an observation, a map of named values", hint="send use_this.observation with the images"
        )
    if not isinstance(ensemble, bool | None):
        raise ProtocolError("ensemble: expected true or false", hint="send true or false, or leave it out")
    named = {"dataset": message.get("dataset_name"), "execution": "ensemble" if ensemble else None}
    fields = {name: value for name, value in message.items() if name not in ("observation", "modality", "ensemble")}
    return ActRequest(step=reader.step({**named, **fields, **observation}), form="action", is_encoded=True)


def read_reset(body: bytes, reader: ObservationReader) -> EpisodeRequest:
    """Parse a body of `/reset`, which may be empty: the session whose episode begins, and its seed.

    Raises:
        ProtocolError, RequestError: naming the invalid field.
    """
    return reader.episode(_map_from(body) if body.strip() not in (b"", b"null") else {})


def write(result: StepResult, request: ActRequest) -> str:
    """Return the reply: the action to execute now, or the list of all actions from it on."""
    actions = result.action.actions
    written = dumps(list(actions) if request.form == "chunk" else actions[0])
    return dumps(written) if request.is_encoded else written


def write_notes(result: StepResult) -> dict[str, str]:
    """Return the header that carries notes for the client; the body has no field for them."""
    notes = list(result.notes)
    if result.unknown_words:
        notes.append(f"unknown_words: {' '.join(result.unknown_words)}")
    return {"X-VLA-Note": ascii("; ".join(notes))[1:-1]} if notes else {}


def _map_from(text: object) -> Mapping[str, Any]:
    content = loads(text) if isinstance(text, bytes | str) else None
    if not isinstance(content, dict):
        raise ProtocolError("the body: expected a JSON object of named values", hint="send image and instruction")
    return content
