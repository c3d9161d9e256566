"""What replies say of sessions."""

from typing import Literal

from vla_server_base.schemas.base import Reply
from vla_server_base.sessions.requests import StepResult


class SessionReply(Reply):
    """Where a session is after this step."""

    id: str
    step: int
    """Which step of the episode this was; noise follows from it and the seed."""
    sequence: int | None
    """As it was sent."""
    obs_time: float | None
    """As it was sent."""
    asked_policy: bool
    """False where the action was in the chunk already."""
    inference_delay: int | None = None
    """How many rows of `actions` are the last chunk's, as they are executed until the answer arrives; for executions
    that continue chunks."""
    notes: list[str] | None = None
    """What was done that the client did not say, or said otherwise: a default instruction, a dataset's other name."""
    unknown_words: list[str] | None = None
    """Words of the instruction that the policy's vocabulary does not cover: to it they are all the same."""
    token: str | None = None
    """Resumes the session, where `return_token` asked for it: opaque, base64."""


def session_reply(result: StepResult) -> SessionReply:
    """Return what a reply says of the session of a step; it sets only the fields that have something to say."""
    optional = {"notes": list(result.notes), "unknown_words": list(result.unknown_words), "token": result.token}
    reply = SessionReply(
        id=result.session_id,
        step=result.step,
        sequence=result.sequence,
        obs_time=result.obs_time,
        asked_policy=result.asked_policy,
        **{name: value for name, value in optional.items() if value},
    )
    if result.inference_delay is not None:
        reply.inference_delay = result.inference_delay
    return reply


class SessionStatusReply(Reply):
    """One session."""

    id: str
    client: str
    """The network address that began it."""
    protocol: str
    """Of the request that began it: `http` (`/predict`), `openpi`, `vla-eval`, `openvla`, `gr00t` or `lerobot`."""
    model: str
    """The id of the model that answers it until it ends."""
    execution: str
    instruction: str | None
    seed: int
    step: int
    """The next request's."""
    idle_s: float
    is_waiting: bool
    """Whether a request waits for its result."""
    steps_per_s: float
    """Steps that were answered in the last 10 s, divided by 10 s."""
    last_ms: float | None
    """How long the last step took; null before the first step of an episode is answered."""


class SessionsReply(Reply):
    """The sessions, the last used one first."""

    sessions: list[SessionStatusReply]
    max_sessions: int


class ResetReply(Reply):
    """A new episode has begun."""

    status: Literal["reset successful"] = "reset successful"
