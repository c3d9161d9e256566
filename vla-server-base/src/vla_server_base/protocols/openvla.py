"""OpenVLA's `POST /act`, with what AutoEval, OpenVLA-OFT and Berkeley's old Octo server made of it: JSON with arrays.

A message is an observation with its instruction; where arrays cannot be sent it is one string, `encoded`, and so is
the answer. OpenVLA's and AutoEval's clients get one action; OFT's, who send `full_image`, a list of them, the chunk.
The old Octo server's `/query` is told everything in `use_this`. Follows vla-scripts/deploy.py of openvla/openvla and of
moojink/openvla-oft, policy_clients.py of zhouzypaul/auto_eval and octo_server_model.py of simpler-env/SimplerEnv.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vla_server_base.errors import ProtocolError
from vla_server_base.protocols.json_numpy import dumps, loads
from vla_server_base.protocols.named_values import is_one_of
from vla_server_base.protocols.observations import ObservationReader
from vla_server_base.schemas.session_reply import SessionReply
from vla_server_base.sessions.step import EpisodeRequest, TurnReply, TurnRequest

Form = Literal["action", "chunk"]


@dataclass(frozen=True, kw_only=True)
class ActRequest:
    """A turn, in which form its actions are answered, and whether as JSON in a string."""

    turn: TurnRequest
    form: Form
    is_encoded: bool


def read_act(body: bytes, reader: ObservationReader) -> ActRequest:
    """Return what a body of `/act` asks for; not for the event loop.

    Raises:
        ProtocolError, RequestError: naming what the policy takes.
    """
    message = _map_from(body)
    is_encoded = message.keys() == {"encoded"}
    if is_encoded:
        message = _map_from(message["encoded"])
    form: Form = "chunk" if "full_image" in message else "action"
    return ActRequest(turn=reader.turn(message), form=form, is_encoded=is_encoded)


def read_query(body: bytes, reader: ObservationReader) -> ActRequest:
    """Return what a body of `/query` asks for: by default an ensemble, as that server had it; not for the event loop.

    Raises:
        ProtocolError, RequestError: naming what the policy takes.
    """
    message = _map_from(_map_from(body).get("use_this"))
    modality, ensemble = message.get("modality", "l"), message.get("ensemble", False)
    if not is_one_of(modality, ("l",)):
        raise ProtocolError("modality: only l, an instruction, is taken here", hint="POST /predict takes goal images")
    observation = message.get("observation")
    if not isinstance(observation, dict):
        raise ProtocolError("use_this has no observation, a map of named values")
    if not isinstance(ensemble, bool | None):
        raise ProtocolError("ensemble: it is neither true nor false")
    named = {"dataset": message.get("dataset_name"), "execution": "ensemble" if ensemble else None}
    said = {name: value for name, value in message.items() if name not in ("observation", "modality", "ensemble")}
    return ActRequest(turn=reader.turn({**named, **said, **observation}), form="action", is_encoded=True)


def read_reset(body: bytes, reader: ObservationReader) -> EpisodeRequest:
    """Return which session a body of `/reset` begins anew, and with what seed; it may be empty.

    Raises:
        ProtocolError, RequestError: naming what cannot be.
    """
    return reader.episode(_map_from(body) if body.strip() not in (b"", b"null") else {})


def write(reply: TurnReply, request: ActRequest) -> str:
    """Return the body that answers a turn: the action to execute now, or it and all that follow."""
    actions = reply.answer.action.actions
    written = dumps(list(actions) if request.form == "chunk" else actions[0])
    return dumps(written) if request.is_encoded else written


def write_notes(session: SessionReply) -> dict[str, str]:
    """Return the header with what a client is to be told; the body has no room for it."""
    notes = list(session.notes or [])
    if session.unknown_words:
        notes.append(f"unknown_words: {' '.join(session.unknown_words)}")
    return {"X-VLA-Note": ascii("; ".join(notes))[1:-1]} if notes else {}


def _map_from(text: object) -> Mapping[str, Any]:
    content = loads(text) if isinstance(text, bytes | str) else None
    if not isinstance(content, dict):
        raise ProtocolError("the body is no map of named values", hint="send image and instruction")
    return content
