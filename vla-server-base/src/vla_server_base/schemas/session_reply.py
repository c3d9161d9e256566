"""What is said of sessions."""

from typing import Literal

from vla_server_base.schemas.base import Reply


class SessionReply(Reply):
    """Where a session is after this turn."""

    id: str
    step: int
    """Which step of the episode this was; noise follows from it and the seed."""
    sequence: int | None
    """As it was sent."""
    obs_time: float | None
    """As it was sent."""
    asked_policy: bool
    """False where the action was in the chunk already."""
    notes: list[str] | None = None
    """What was done that the client did not say, or said otherwise: a default instruction, a dataset's other name."""
    unknown_words: list[str] | None = None
    """Words of the instruction that the policy's vocabulary does not cover: to it they are all the same."""
    token: str | None = None
    """Resumes the session, where `return_token` asked for it: opaque, base64."""


class SessionStatusReply(Reply):
    """One session."""

    id: str
    execution: str
    instruction: str | None
    seed: int
    step: int
    """The next turn's."""
    idle_s: float
    is_waiting: bool
    """Whether a turn waits for its answer."""


class SessionsReply(Reply):
    """The sessions, the last used one first."""

    sessions: list[SessionStatusReply]
    max_sessions: int


class ResetReply(Reply):
    """A new episode has begun."""

    status: Literal["reset successful"] = "reset successful"
