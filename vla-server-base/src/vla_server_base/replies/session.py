"""What is said of sessions."""

import base64

from vla_server_base.replies.body import Reply
from vla_server_base.turn import TurnReply


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


def session_reply(reply: TurnReply, obs_time: float | None) -> SessionReply:
    """Return where a session is; `obs_time` as the client sent it."""
    where = SessionReply(
        id=reply.session_id,
        step=reply.answer.step,
        sequence=reply.answer.sequence,
        obs_time=obs_time,
        asked_policy=reply.answer.asked_policy,
    )
    if reply.token is not None:
        where.token = base64.b64encode(reply.token).decode("ascii")
    return where
