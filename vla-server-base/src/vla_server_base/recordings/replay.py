"""A recording as requests to POST /predict: the same images, settings, seeds and steps, in the same order."""

import base64
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vla_server_base.recordings.messages import REPLAY_PREFIX
from vla_server_base.recordings.reader import RecordedTurn
from vla_server_base.sessions.content import VERSION
from vla_server_base.sessions.settings import SessionSettings
from vla_server_base.sessions.token import TokenSeal

_TOKEN_S = 3600.0
_GOES_WITH = {"execution_horizon": ("chunk", "rtc", "blended"), "ensemble_weight": ("ensemble",)}


@dataclass(kw_only=True)
class _Session:
    """A session that is replayed: its id at the server, and the turn that came last."""

    id: str
    last_turn: int


@dataclass(kw_only=True)
class Replay:
    """Turns recorded steps into requests.

    A step that does not follow from the one before it needs the session's state: the server takes it as a session
    token, which only the key in its `cache_dir` can sign. Signed by another one such steps are refused, and left out up
    to the next episode of their session.
    """

    model_id: str
    cache_dir: Path
    key_name: str = ""
    """The name of the API key with which the requests are sent: it owns their sessions."""
    num_left_out: int = 0
    _run: str = field(default_factory=lambda: secrets.token_hex(4))
    _sessions: dict[str, _Session] = field(default_factory=dict)
    _num_sessions: int = 0

    def request(self, turn: RecordedTurn) -> dict[str, Any] | None:
        """Return the body of a step's request; None if it cannot be sent."""
        message, session = turn.message, self._sessions.get(turn.session_id)
        body: dict[str, Any] = {
            "images": dict(turn.images),
            "goal_images": dict(turn.goal_images),
            "sequence": message.step,
        }
        optional = {
            "instruction": message.instruction,
            "proprio": message.proprio,
            "inference_delay": message.inference_delay,
        }
        body |= {name: value for name, value in optional.items() if value is not None}
        if message.begins:
            session = session or self._new_session(turn)
            body |= {"reset": True, "seed": message.seed, **_settings(message.settings)}
        elif session is None or not (message.continues and message.turn == session.last_turn + 1):
            session = self._new_session(turn)
            token = self._token(turn, session.id)
            if token is None:
                self.break_off(turn)
                return None
            session.last_turn = message.turn
            return body | {"session_token": token}
        session.last_turn = message.turn
        return body | {"session_id": session.id}

    def break_off(self, turn: RecordedTurn) -> None:
        """Note that a step was not answered: those after it cannot be sent either."""
        self.num_left_out += 1
        self._sessions.pop(turn.session_id, None)

    @property
    def session_ids(self) -> list[str]:
        """The sessions that are at the server now."""
        return [session.id for session in self._sessions.values()]

    def _new_session(self, turn: RecordedTurn) -> _Session:
        self._num_sessions += 1
        session = _Session(id=f"{REPLAY_PREFIX}{self._run}-{self._num_sessions}", last_turn=turn.message.turn)
        self._sessions[turn.session_id] = session
        return session

    def _token(self, turn: RecordedTurn, session_id: str) -> str | None:
        if turn.state is None:
            return None
        progress = _arrays(turn.state["progress"])
        # Steps are counted from here on as they were, however the robot counted them.
        progress |= {"sequence": progress["step"] - 1, "obs_time": None}
        content = {
            "version": VERSION,
            "expires": time.time() + _TOKEN_S,
            "id": session_id,
            "owner": self.key_name,
            "settings": turn.state["settings"],
            "progress": progress,
        }
        return TokenSeal(self.cache_dir, self.model_id, _TOKEN_S).sealed(content)


def _settings(settings: SessionSettings) -> dict[str, Any]:
    """Return the fields of a request that begins an episode with these settings."""
    fields = {
        "execution": settings.execution,
        "execution_horizon": settings.execution_horizon,
        "ensemble_weight": settings.ensemble_weight,
        "control_hz": settings.control_hz,
        "dataset": settings.dataset,
        "action_format": settings.action_format,
    }
    return {
        name: value
        for name, value in fields.items()
        if value is not None and settings.execution in _GOES_WITH.get(name, (settings.execution,))
    }


def _arrays(content: Any) -> Any:
    """Return a state with arrays where its message has their bytes."""
    if isinstance(content, Mapping):
        if content.keys() == {"dtype", "shape", "data"}:
            return np.frombuffer(base64.b64decode(content["data"]), content["dtype"]).reshape(content["shape"])
        return {name: _arrays(value) for name, value in content.items()}
    return [_arrays(each) for each in content] if isinstance(content, list) else content
