"""The client's side of a session: enough to repeat a step without the server counting it twice."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from vla_client.errors import ObservationError, SessionLost

_SETTINGS_FIELDS = {"execution", "execution_horizon", "ensemble_weight", "control_hz"}
_STEP_FIELDS = {
    "endpoint",
    "session_id",
    "session_token",
    "return_token",
    "reset",
    "seed",
    "sequence",
    "deadline_ms",
    "inference_delay",
}


@dataclass
class ClientSession:
    """The client's side of a session.

    The sequence number identifies a step and never restarts: a message that is still on its way on a broken connection
    is the same step, or an older one, to the server. The first step of an episode is the exception, because it would
    start the episode again; it is never sent to the same session twice.
    """

    name: str
    seed: int
    settings: Mapping[str, Any]
    keeps_token: bool = False
    sequence: int = -1
    """The number of the last step."""
    begins: bool = True
    """Whether the next step starts an episode."""
    token: Optional[str] = None
    _num_renamed: int = field(default=0, init=False)

    @property
    def id(self) -> str:
        """The session id at the server."""
        return f"{self.name}+{self._num_renamed}" if self._num_renamed else self.name

    def begin(self, seed: Optional[int]) -> None:
        """Let the next step start an episode; None keeps the seed."""
        self.begins, self.token = True, None
        self.seed = self.seed if seed is None else seed

    def step_fields(self, *, as_token: bool) -> dict[str, Any]:
        """Return the session's fields in the message of the current step; `as_token` names the session by its token.

        Only the first step has the seed, so that a session which the server had to create again has another one.
        """
        name = {"session_token": self.token} if as_token and self.token is not None else {"session_id": self.id}
        start = {"reset": True, "seed": self.seed} if self.begins else {}
        return {**self.settings, **name, **start, "sequence": self.sequence, "return_token": self.keeps_token}

    def left_unanswered(self) -> None:
        """Record that the server may or may not have received the current step."""
        self._num_renamed += self.begins

    def answered(self, fields: dict[str, Any]) -> None:
        """Record the `session` field of an answer and remove the token from it.

        Raises:
            SessionLost: the seed is not this session's, so the server has created another session.
        """
        token = fields.pop("token", None)
        if fields["seed"] != self.seed:
            raise SessionLost(
                f"the server has forgotten session '{self.id}': it was restarted, or the session was idle too long; "
                f"step {self.sequence} was answered as the first of a new episode",
                hint="call reset() to start a new episode; resume_after_restart=True lets an episode continue",
            )
        self.begins, self.token = False, token


def new_session(
    name: Optional[str], seed: Optional[int], settings: Mapping[str, Any], *, keeps_token: bool
) -> ClientSession:
    """Return a session without steps; an id or a seed that is None is drawn."""
    return ClientSession(
        name=secrets.token_hex(16) if name is None else name,
        seed=secrets.randbelow(2**32) if seed is None else seed,
        settings={name: value for name, value in settings.items() if value is not None},
        keeps_token=keeps_token,
    )


def check_fields(observation: Mapping[str, Any]) -> None:
    """Check that an observation has no field of its session.

    Raises:
        ObservationError: it has some, which the message names.
    """
    if names := sorted((_SETTINGS_FIELDS | _STEP_FIELDS).intersection(observation)):
        raise ObservationError(
            f"the observation has the fields {', '.join(names)}, which the client sets itself",
            hint="use the arguments of Policy, Policy.reset and Policy.infer",
        )
