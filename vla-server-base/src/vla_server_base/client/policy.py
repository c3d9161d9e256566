"""Policy: a policy server as a robot's control loop has it."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal

import numpy as np
from websockets.exceptions import WebSocketException

from vla_server_base.client.connection import Connection, end_session
from vla_server_base.client.errors import ObservationError, PolicyError
from vla_server_base.client.metadata import Metadata
from vla_server_base.client.retries import Retries
from vla_server_base.client.session import check_fields, new_session

_LONG_PAUSE_S = 60.0
"""After which the server may have forgotten the session, so that its token is presented."""


class Policy:
    """A policy at a server, asked by one robot; for one thread.

    `session_id` names the robot at the server, `seed` is what the policy's noise follows from; both are drawn if left
    out. docs/sessions.md has `execution`, `execution_horizon` and `ensemble_weight`, docs/http.md `dataset`.

    A connection that breaks is replaced, and the same turn asked again: it is taken once. With `resume_after_restart`
    each answer brings the session's token, about as large as the pictures of the window, so that an episode goes on
    even where the server was started again meanwhile.

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
        self._connect_timeout_s, self._answer_timeout_s = connect_timeout_s, answer_timeout_s
        self._reconnect_s = reconnect_s
        self._connection = self._connected()

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
    ) -> np.ndarray:
        """Return the action to execute now, `action_dim` numbers in the units of `metadata.action_units`.

        `images` are uint8, height x width x 3, RGB, by camera name, or the first camera's alone.

        Raises:
            ObservationError: there is a picture of a camera that the policy lacks.
            PolicyError, SessionLost, Unreachable: see `infer`.
        """
        cameras = self.metadata.camera_names
        by_camera = images if isinstance(images, Mapping) else {cameras[0]: images}
        if unknown := sorted(set(by_camera).difference(cameras)):
            raise ObservationError(f"camera '{unknown[0]}' is not in this policy; it takes: {', '.join(cameras)}")
        observation = {**by_camera, "instruction": instruction, "proprio": proprio}
        return first_action(self.infer(observation))

    def infer(
        self, observation: Mapping[str, Any], *, deadline_ms: float | None = None, sequence: int | None = None
    ) -> dict[str, Any]:
        """Return the whole answer to an observation, in the form of openpi's: `actions`, `session` and timings.

        The first row of `actions`, (rows, `action_dim`), is the one to execute now; arrays are read-only. Each call is
        one control step, also one that ends in an error; `sequence` numbers it otherwise: further ahead skips steps,
        and the last once more gets the last answer, or after an error another attempt at it.

        Raises:
            PolicyError: what the server says instead, such as `late` after `deadline_ms`.
            SessionLost: it has forgotten the episode.
            Unreachable: no answer came; what was tried took at most reconnect_s and one attempt more.
            ObservationError: the observation cannot be sent.
        """
        check_fields(observation)
        session = self._session
        session.sequence = session.sequence + 1 if sequence is None else sequence
        deadline = {} if deadline_ms is None else {"deadline_ms": deadline_ms}
        answer = self._answer({**observation, **deadline})
        session.answered(answer["session"])
        return answer

    def reset(self, seed: int | None = None) -> None:
        """Let the next turn begin a new episode; the seed stays unless there is another."""
        self._session.begin(seed)

    def close(self) -> None:
        """End the session and the connection; a turn after that begins a new episode on a new one."""
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

    def _answer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """Return the present turn's answer, on as many connections as it takes."""
        retries = Retries(self._url, self._reconnect_s)
        while True:
            if not self._connection.is_open:
                self._connection = self._connected(retries)
            try:
                return self._asked(observation)
            except (OSError, WebSocketException) as error:
                retries.pause_after(error)
            except PolicyError as error:
                if error.code != "invalid_token" or self._session.token is None:
                    raise
                # Too old, or another server's: the session may still be there, and if not, its answer shows that.
                self._session.token = None

    def _asked(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """Ask for the present turn's answer once."""
        connection, session = self._connection, self._session
        last = connection.last_answer
        may_be_forgotten = last is None or time.monotonic() - last > _LONG_PAUSE_S
        message = {**observation, **session.turn(as_token=may_be_forgotten)}
        try:
            return connection.ask(message, self._answer_timeout_s)
        finally:
            if not connection.is_open:
                session.left_unanswered()

    def _connected(self, retries: Retries | None = None) -> Connection:
        retries = retries or Retries(self._url, self._reconnect_s)
        while True:
            # The greeting comes when the policy is loaded.
            patience_s = max(retries.left_s, self._connect_timeout_s)
            try:
                return Connection(self._url, connect_timeout_s=self._connect_timeout_s, greeting_timeout_s=patience_s)
            except (OSError, WebSocketException) as error:
                retries.pause_after(error)


def first_action(answer: Mapping[str, Any]) -> np.ndarray:
    """Return the action of an answer that is to be executed now, (action_dim,), the caller's own."""
    return np.array(answer["actions"][0])
