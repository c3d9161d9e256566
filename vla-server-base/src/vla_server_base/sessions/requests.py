"""What a robot asks of its session, and what it gets: the core types of one control step."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from vla_server_base.contract import Action, Observation, PolicySpec, Task
from vla_server_base.engine.engine import Engine

SettingsScope = Literal["session", "episode", "request"]


@dataclass(frozen=True, kw_only=True)
class ReadFor:
    """The model for which a request was read: its images are fitted, and its names checked, to this one.

    `engine` is None if that is left to the session. `is_named` says that the client named the model, and `resets` that
    the request begins an episode.
    """

    engine: Engine | None = None
    is_named: bool = False
    resets: bool = False


READ_FOR_ANY = ReadFor()


@dataclass(frozen=True, kw_only=True)
class StepRequest:
    """What a robot sees at one control step, what it is to do, and which session the step belongs to.

    A request that names a session by neither `session_id` nor `token` gets a new one. `connection` is the connection
    that it came on, where the server notices the connection's end.

    `sequence` counts the control steps; without it `obs_time` [s], of any clock, orders the observations. Without
    either, `num_skipped` steps lie between this one and the last. `deadline_ms` counts from the request's arrival.
    `inference_delay` is how many steps the robot executes until it has the answer, for sessions that continue chunks.
    `reset` begins a new episode with this step, with a `seed` from the request.

    `sources` name, by camera, the camera group and the client's camera that an image comes from, for clients that
    send several cameras of one group.

    `settings` are fields of SessionSettings. `scope` says where the fields that are left out come from: the session's
    settings (`session`); the episode's, and the server's when this step begins it (`episode`); or the server's
    (`request`).

    `executes_chunks` says that the client executes the reply's chunk itself before it sends the next observation.

    `traceparent` is the message's own, where a protocol has room for it.

    `notes` tell the client what the server changed or filled in, such as the default instruction.

    `engine` is of the model for which it was read, None if that is left to the session; see `ReadFor`.
    """

    observation: Observation
    task: Task
    session_id: str | None = None
    token: str | None = None
    return_token: bool = False
    connection: str | None = None
    reset: bool = False
    seed: int | None = None
    sequence: int | None = None
    obs_time: float | None = None
    num_skipped: int = 0
    deadline_ms: float | None = None
    inference_delay: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    scope: SettingsScope = "session"
    sources: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    executes_chunks: bool = False
    notes: tuple[str, ...] = ()
    traceparent: str | None = None
    engine: Engine | None = None
    names_model: bool = False

    @property
    def read_for(self) -> ReadFor:
        """The model for which the request was read."""
        return ReadFor(engine=self.engine, is_named=self.names_model, resets=self.reset)

    @property
    def is_of_its_connection(self) -> bool:
        """Whether its session is the connection's own, which ends with it, so that no other server gets its steps."""
        return self.connection is not None and self.session_id == self.connection

    def on_connection(self, session_id: str) -> "StepRequest":
        """Return it as a step of its connection's default session, unless it names another one."""
        request = replace(self, connection=session_id)
        return request if self._names_a_session else replace(request, session_id=session_id, scope="episode")

    def from_address(self, session_id: str) -> "StepRequest":
        """Return it as a step of its address's default session, unless it names another one.

        The server does not notice when one program ends and another begins at an address, so each request states all
        its settings.
        """
        if self._names_a_session:
            return self
        settings = {"execution": "receding", **self.settings} if self.executes_chunks else self.settings
        return replace(self, session_id=session_id, scope="request", settings=settings)

    @property
    def _names_a_session(self) -> bool:
        return self.session_id is not None or self.token is not None


@dataclass(frozen=True, kw_only=True)
class EpisodeRequest:
    """What a client says of an episode before its first step; the fields are those of a StepRequest."""

    session_id: str | None = None
    seed: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    executes_chunks: bool = False
    engine: Engine | None = None


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What the robot does now, and where its session is after this step.

    `action.action` is the one to execute now, in the session's format; `action.actions` are un-normalized, from this
    one on as far as they are known: the chunk, what is left of it, or with an ensemble this one alone. `step` and
    `seed` determine the noise. `asked_policy` is False where the action was queued already. `inference_delay` is how
    many of the actions are the last chunk's, None where the session continues no chunks. `token` resumes the session,
    where the request asked for it. `model` is the id of the model that answered, and `spec` what it is.
    """

    action: Action
    dataset: str | None
    action_format: str
    session_id: str
    step: int
    seed: int
    sequence: int | None
    obs_time: float | None
    asked_policy: bool
    inference_delay: int | None = None
    queue_ms: float = 0.0
    infer_ms: float = 0.0
    notes: tuple[str, ...] = ()
    unknown_words: tuple[str, ...] = ()
    model: str = ""
    spec: PolicySpec | None = None
    token: str | None = None
