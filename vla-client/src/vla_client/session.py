"""What a client knows of its session: enough to ask for a turn's answer again without it being taken twice."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vla_client.errors import ObservationError, SessionLost

_OF_SETTINGS = {"execution", "execution_horizon", "ensemble_weight"}
_OF_TURNS = {"endpoint", "session_id", "session_token", "return_token", "reset", "seed", "sequence", "deadline_ms"}


@dataclass(kw_only=True)
class ClientSession:
    """The client's side of a session.

    A turn is known by its sequence, which never starts again: whatever of it is still on its way on a broken connection
    is the same turn, or an older one, to the server. A turn that begins an episode is not, since it would begin it once
    more; so it is never sent to the same session twice.
    """

    name: str
    seed: int
    settings: Mapping[str, Any]
    keeps_token: bool = False
    sequence: int = -1
    """The last turn's."""
    begins: bool = True
    """Whether an episode begins with the next answer."""
    token: str | None = None
    _num_renamed: int = field(default=0, init=False)

    @property
    def id(self) -> str:
        """What the server knows it by."""
        return f"{self.name}+{self._num_renamed}" if self._num_renamed else self.name

    def begin(self, seed: int | None) -> None:
        """Let the next turn begin an episode, with the same seed if there is no other."""
        self.begins, self.token = True, None
        self.seed = self.seed if seed is None else seed

    def turn(self, *, as_token: bool) -> dict[str, Any]:
        """Return what the present turn says of its session, which it names by its token if asked to and there is one.

        The seed goes with the first turn alone: a session that the server had to make up since has another.
        """
        name = {"session_token": self.token} if as_token and self.token is not None else {"session_id": self.id}
        start = {"reset": True, "seed": self.seed} if self.begins else {}
        return {**self.settings, **name, **start, "sequence": self.sequence, "return_token": self.keeps_token}

    def left_unanswered(self) -> None:
        """Note that it is not known whether the server has seen, or will yet see, the present turn."""
        self._num_renamed += self.begins

    def answered(self, place: dict[str, Any]) -> None:
        """Take note of `session` of an answer, and take the token out of it.

        Raises:
            SessionLost: it is another one.
        """
        token = place.pop("token", None)
        if place["seed"] != self.seed:
            raise SessionLost(
                f"the server has forgotten session '{self.id}', and what it had seen of this episode: it was started "
                f"again, or nothing was asked for too long; turn {self.sequence} was answered as an episode's first",
                hint="reset() begins a new episode; resume_after_restart=True keeps what goes on with an old one",
            )
        self.begins, self.token = False, token


def new_session(name: str | None, seed: int | None, settings: Mapping[str, Any], *, keeps_token: bool) -> ClientSession:
    """Return a session that has not begun, with an id and a seed drawn here where there are none."""
    return ClientSession(
        name=secrets.token_hex(16) if name is None else name,
        seed=secrets.randbelow(2**32) if seed is None else seed,
        settings={name: value for name, value in settings.items() if value is not None},
        keeps_token=keeps_token,
    )


def check_fields(observation: Mapping[str, Any]) -> None:
    """Refuse an observation that speaks of its session.

    Raises:
        ObservationError: naming what it says.
    """
    if named := sorted((_OF_SETTINGS | _OF_TURNS).intersection(observation)):
        raise ObservationError(
            f"the observation has {', '.join(named)}, which the client says by itself",
            hint="see Policy, Policy.reset and the arguments of Policy.infer",
        )
