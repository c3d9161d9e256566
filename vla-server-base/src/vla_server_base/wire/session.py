"""A session in a request: which it is, how it acts, and where in it this turn belongs."""

import base64
import binascii
from typing import Any

import pydantic
from pydantic import Field

from vla_server_base.errors import InvalidToken
from vla_server_base.session import Execution
from vla_server_base.wire.body import Body


class SessionFields(Body):
    """What makes a request a turn of a session."""

    session_id: str | None = None
    """Names the robot's session, begun with its first turn: 1 to 128 letters, digits or any of . _ : @ / + -"""
    session_token: str | None = None
    """`session.token` of an earlier reply, instead of session_id: resumes its session, also after a restart."""
    return_token: bool = False
    """Whether the reply has `session.token`; it is about as large as the pictures."""
    reset: bool = False
    """Whether a new episode begins with this turn."""
    sequence: int | None = Field(default=None, ge=0, lt=2**31)
    """Which control step the observation is of; older ones are refused, skipped ones left out of the chunk."""
    obs_time: float | None = None
    """When it was made, in seconds of any clock; orders observations where there is no sequence."""
    deadline_ms: float | None = Field(default=None, gt=0)
    """From the request's arrival; an answer that takes longer is refused as `late`."""
    execution: Execution | None = None
    """The policy is asked at every step (receding, the default), after some actions (chunk), or averaged (ensemble)."""
    execution_horizon: int | None = Field(default=None, ge=1)
    """Actions of each chunk that are executed before the policy is asked again; goes with chunk."""
    ensemble_weight: float | None = Field(default=None, ge=-10, le=10)
    """How much more older chunks count; goes with ensemble. 0 by default: all count the same."""

    @pydantic.model_validator(mode="after")
    def _of_one_session(self):
        if self.session_id is not None and self.session_token is not None:
            raise ValueError("session_id and session_token both name a session: give one")
        if not self.is_turn:
            alone = {"deadline_ms", "session_id", "session_token"}
            given = sorted(
                name
                for name in SessionFields.model_fields.keys() - alone
                if name in self.model_fields_set and getattr(self, name) not in (None, False)
            )
            if given:
                raise ValueError(f"{', '.join(given)} can only be given together with session_id or session_token")
        for name, execution in (("execution_horizon", "chunk"), ("ensemble_weight", "ensemble")):
            if getattr(self, name) is not None and self.execution != execution:
                raise ValueError(f"{name} can only be given together with execution {execution}")
        return self

    @property
    def is_turn(self) -> bool:
        """Whether the request is of a session."""
        return self.session_id is not None or self.session_token is not None


def settings_from_body(body: SessionFields) -> dict[str, Any]:
    """Return what the request says of how the session acts."""
    names = ("execution", "execution_horizon", "ensemble_weight")
    return {name: value for name in names if (value := getattr(body, name)) is not None}


def token_from_text(token: str) -> bytes:
    """Return a session token as it was before it was put into a reply.

    Raises:
        InvalidToken: it is not base64.
    """
    try:
        return base64.b64decode(token, validate=True)
    except binascii.Error as error:
        raise InvalidToken("the session token is not base64", hint="send session.token as it was replied") from error
