"""A step of a session as a recorder gets it: what was asked, where the session was, and what was answered."""

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vla_server_base.contract import Observation
from vla_server_base.sessions.requests import StepRequest, StepResult
from vla_server_base.sessions.settings import SessionSettings


@dataclass(frozen=True, eq=False, kw_only=True)
class RecordedStep:
    """A request of a session and what became of it: `result`, or `error` where it was refused.

    `session_id` begins with the name of the API key that owns the session, if one does: others may use the same id.

    `before` is the session's progress when the request came, as `progress_content` gives it. Arrays are references:
    nothing is copied or encoded. `observation` is what entered the window. `total_ms` counts from when the session got
    the request; `time` is the end of that, in seconds since 1970.
    """

    session_id: str
    client: str
    protocol: str
    request_id: str
    request: StepRequest
    observation: Observation
    before: Mapping[str, Any]
    settings: SessionSettings
    episode: int
    result: StepResult | None = None
    error: Exception | None = None
    total_ms: float
    time: float

    @property
    def begins_episode(self) -> bool:
        """Whether it is the first step of its episode."""
        return self.before["task"] is None or self.before["episode"] != self.episode


class SessionRecorder(abc.ABC):
    """Takes the steps of one session; called on the event loop, so it only passes them on."""

    @abc.abstractmethod
    def add(self, step: RecordedStep) -> None:
        """Take a step; it never raises and never waits."""
