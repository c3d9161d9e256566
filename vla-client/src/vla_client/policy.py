"""Policy: a policy server as a robot's control loop has it."""

import math
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal

import numpy as np
from websockets.exceptions import WebSocketException

from vla_client.background import Errand
from vla_client.connection import Connection, end_session
from vla_client.deadline import Deadline, checked_limit_ms, time_seen
from vla_client.errors import ObservationError, PolicyError
from vla_client.metadata import Metadata
from vla_client.retries import Retries
from vla_client.session import check_fields, new_session

_LONG_PAUSE_S = 60.0
"""After which the server may have forgotten the session, so that its token is presented."""


class Policy:
    """A policy at a server, asked by one robot; for one thread.

    `session_id` names the robot at the server, `seed` is what the policy's noise follows from; both are drawn if left
    out. docs/sessions.md has `execution`, `execution_horizon` and `ensemble_weight`, docs/http.md `dataset`.

    A connection that breaks is replaced, and the same turn asked again: it is taken once. With `resume_after_restart`
    each answer brings the session's token, about as large as the pictures of the window, so that an episode goes on
    even where the server was started again meanwhile.

    With `deadline_ms` no turn takes longer, whatever breaks meanwhile, and none returns an action for a picture that is
    older: it raises Late, and the next turn goes on in the same session, on another connection if need be.

    A connection may take `connect_timeout_s` to open and an answer `answer_timeout_s`. For `reconnect_s` a server is
    tried that cannot be reached, or still loads its policy.

    Raises:
        Unreachable: no server answered.
        ProtocolError: what answers is no policy server.

    >>> with Policy("ws://127.0.0.1:8002", seed=0) as policy:
    ...     policy.reset()
    ...     action = policy.act({"primary": image}, "pick up the red cube")
    """

    def __init__(
        self,
        url: str,
        *,
        session_id: str | None = None,
        seed: int | None = None,
        execution: Literal["receding", "chunk", "ensemble"] = "receding",
        execution_horizon: int | None = None,
        ensemble_weight: float | None = None,
        dataset: str | None = None,
        deadline_ms: float | None = None,
        resume_after_restart: bool = False,
        connect_timeout_s: float = 10.0,
        answer_timeout_s: float = 60.0,
        reconnect_s: float = 60.0,
    ):
        settings = {
            "execution": execution,
            "execution_horizon": execution_horizon,
            "ensemble_weight": ensemble_weight,
            "dataset": dataset,
        }
        self._session = new_session(session_id, seed, settings, keeps_token=resume_after_restart)
        self._url = url
        self._deadline_ms = checked_limit_ms(deadline_ms)
        self._connect_timeout_s, self._answer_timeout_s = connect_timeout_s, answer_timeout_s
        self._reconnect_s = reconnect_s
        self._connection = self._connected(Retries(url, reconnect_s))
        self._opening: Errand[Connection] | None = None
        """The next connection, if it is being waited for."""
        self._seen_at = 0.0
        """When the last turn's picture was."""

    @property
    def metadata(self) -> Metadata:
        """What the policy takes and gives, as the server said when the last connection opened."""
        return self._connection.metadata

    @property
    def session_id(self) -> str:
        """What the server knows this robot's session by, with "+1" and so on where a first turn had to be repeated."""
        return self._session.id

    @property
    def seed(self) -> int:
        """What the policy's noise follows from, together with the step."""
        return self._session.seed

    @property
    def sequence(self) -> int:
        """The last turn's number, -1 before the first."""
        return self._session.sequence

    def act(
        self,
        images: Mapping[str, np.ndarray] | np.ndarray,
        instruction: str,
        proprio: np.ndarray | None = None,
        *,
        obs_time: float | None = None,
    ) -> np.ndarray:
        """Return the action to execute now, `action_dim` numbers in the units of `metadata.action_units`.

        `images` are uint8, height x width x 3, RGB, by camera name, or the first camera's alone. They count as seen
        now, or at `obs_time` of `time.monotonic()`.

        Raises:
            ObservationError: there is a picture of a camera that the policy lacks.
            Late, PolicyError, SessionLost, Unreachable: see `infer`.
        """
        cameras = self.metadata.camera_names
        by_camera = images if isinstance(images, Mapping) else {cameras[0]: images}
        if unknown := sorted(set(by_camera).difference(cameras)):
            raise ObservationError(f"camera '{unknown[0]}' is not in this policy; it takes: {', '.join(cameras)}")
        time_of = {} if obs_time is None else {"obs_time": obs_time}
        return first_action(self.infer({**by_camera, "instruction": instruction, "proprio": proprio, **time_of}))

    def infer(
        self, observation: Mapping[str, Any], *, deadline_ms: float | None = None, sequence: int | None = None
    ) -> dict[str, Any]:
        """Return the whole answer to an observation, in the form of openpi's: `actions`, `session` and timings.

        The first row of `actions`, (rows, `action_dim`), is the one to execute now; arrays are read-only. Each call is
        one control step, also one that ends in an error; `sequence` numbers it otherwise: further ahead skips steps,
        and the last once more gets the last answer, or after an error another attempt at it.

        `deadline_ms` is this turn's own; infinity is none. It counts from the call, or from the observation's
        `obs_time`, which is then of `time.monotonic()`. Of the last turn once more it counts from the first call,
        whose picture is answered.

        Raises:
            Late: no answer came before the deadline.
            PolicyError: what the server says instead.
            SessionLost: it has forgotten the episode.
            Unreachable: no answer came; what was tried took at most reconnect_s and one attempt more.
            ObservationError: the observation cannot be sent.
        """
        check_fields(observation)
        session = self._session
        limit_ms = self._deadline_ms if deadline_ms is None else checked_limit_ms(deadline_ms)
        if sequence != session.sequence or session.begins:
            self._seen_at = time_seen(None if math.isinf(limit_ms) else observation.get("obs_time"))
        session.sequence = session.sequence + 1 if sequence is None else sequence
        deadline = Deadline(seen_at=self._seen_at, limit_ms=limit_ms)
        answer = self._answer(observation, deadline)
        session.answered(answer["session"])
        deadline.check("the answer came too late")
        return answer

    def reset(self, seed: int | None = None) -> None:
        """Let the next turn begin a new episode; the seed stays unless there is another."""
        self._session.begin(seed)

    def close(self) -> None:
        """End the session and the connection; a turn after that begins a new episode on a new one."""
        if self._opening is not None:
            self._opening.then(Connection.close)
            self._opening = None
        if self._connection.is_open:
            if not self._session.begins:
                end_session(self._url, self._session.id)
            self._connection.close()
        self._session.begin(None)

    def __enter__(self) -> "Policy":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, observation: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        """Return the present turn's answer, on as many connections as it takes."""
        retries = Retries(self._url, self._reconnect_s)
        failure: Exception | None = None
        while True:
            self._reconnect(retries, failure, deadline)
            try:
                return self._asked(observation, deadline)
            except (OSError, WebSocketException) as error:
                failure = error
            except PolicyError as error:
                if error.code != "invalid_token" or self._session.token is None:
                    raise
                # Too old, or another server's: the session may still be there, and if not, its answer shows that.
                self._session.token = None

    def _asked(self, observation: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        """Ask for the present turn's answer once."""
        connection, session = self._connection, self._session
        left_ms = 1e3 * deadline.left_s
        deadline.check("it was not asked about")
        last = connection.last_answer
        may_be_forgotten = last is None or time.monotonic() - last > _LONG_PAUSE_S
        # The server does not begin, or go on with, what would come too late.
        time_left = {} if math.isinf(left_ms) else {"deadline_ms": left_ms}
        message = {**observation, **time_left, **session.turn(as_token=may_be_forgotten)}
        try:
            answer = connection.ask(message, deadline, self._answer_timeout_s)
            if answer["session"]["sequence"] != session.sequence:
                connection.drop()
                raise ConnectionAbortedError(f"another turn than {session.sequence} was answered")
            return answer
        finally:
            if not connection.is_open:
                session.left_unanswered()

    def _reconnect(self, retries: Retries, failure: Exception | None, deadline: Deadline) -> None:
        """Have an open connection. One that takes longer than this turn has is there for a later one."""
        if self._connection.is_open:
            return
        self._opening = self._opening or Errand(lambda: self._connected(retries, failure))
        while not self._opening.is_done_in(deadline.left_s):
            deadline.check(f"{self._url} is being connected to")
        opened, self._opening = self._opening, None
        self._connection = opened.result()

    def _connected(self, retries: Retries, failure: Exception | None = None) -> Connection:
        """Return a new connection, after one that failed."""
        while True:
            if failure is not None:
                retries.pause_after(failure)
            # The greeting comes when the policy is loaded.
            patience_s = max(retries.left_s, self._connect_timeout_s)
            try:
                return Connection(self._url, connect_timeout_s=self._connect_timeout_s, greeting_timeout_s=patience_s)
            except (OSError, WebSocketException) as error:
                failure = error


def first_action(answer: Mapping[str, Any]) -> np.ndarray:
    """Return the action of an answer that is to be executed now, (action_dim,), the caller's own."""
    return np.array(answer["actions"][0])
