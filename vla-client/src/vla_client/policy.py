"""Policy: a policy server, as a robot's control loop calls it."""

import math
import time
from collections.abc import Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Literal, Optional, Union

import numpy as np
from websockets.exceptions import WebSocketException

from vla_client import background
from vla_client.connection import Connection, end_session
from vla_client.credentials import Credentials
from vla_client.deadline import Deadline, checked_limit_ms, time_seen
from vla_client.errors import ObservationError, PolicyError
from vla_client.metadata import Metadata
from vla_client.retries import Retries
from vla_client.session import check_fields, new_session
from vla_client.tracing import trace_fields

Execution = Literal["receding", "chunk", "ensemble", "rtc", "aligned", "blended"]
"""How a session executes the policy's chunks; docs/sessions.md says what each does."""
CONTINUED = ("rtc", "aligned", "blended")
"""The executions whose chunks continue the last one."""
_LONG_PAUSE_S = 60.0
"""After a longer pause the server may have forgotten the session, so the client sends its token."""


class Policy:
    """A policy on a server, for one robot and one thread.

    A server with API keys needs `api_key`, by default the variable `VLA_API_KEY`. For wss:// `ca_file` names the CA of
    the server's certificate in PEM (`VLA_CA_FILE`), by default the system's. A server that asks for a certificate gets
    `client_cert`, a file in PEM with it and its key (`VLA_CLIENT_CERT`).

    `session_id` identifies the robot at the server, and `seed` determines the policy's noise; both are drawn if
    omitted. docs/sessions.md describes `execution`, `execution_horizon`, `ensemble_weight` and `control_hz` [1/s],
    docs/http.md `dataset`; what is omitted is as the server has it.

    If a connection breaks, the client opens a new one and sends the same step again; the server counts it once. With
    `resume_after_restart` each answer carries the session's token, about as large as the images of the window, so that
    an episode continues after a restart of the server.

    With `deadline_ms` no step takes longer and no step returns an action for an older image: it raises
    DeadlineExceeded, and the next step continues the session, on a new connection if necessary.

    Opening a connection may take `connect_timeout_s`, an answer `answer_timeout_s`. A server that is unreachable or
    still loading its policy is retried for `reconnect_s`.

    Raises:
        Unauthorized: the server refuses the API key.
        Unreachable: no server answered.
        ProtocolError: the other end is not a policy server.

    >>> with Policy("ws://127.0.0.1:8002", seed=0) as policy:
    ...     policy.reset()
    ...     action = policy.act({"primary": image}, "pick up the red cube")
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: Optional[str] = None,
        ca_file: Optional[str] = None,
        client_cert: Optional[str] = None,
        session_id: Optional[str] = None,
        seed: Optional[int] = None,
        execution: Optional[Execution] = None,
        execution_horizon: Optional[int] = None,
        ensemble_weight: Optional[float] = None,
        control_hz: Optional[float] = None,
        dataset: Optional[str] = None,
        deadline_ms: Optional[float] = None,
        resume_after_restart: bool = False,
        connect_timeout_s: float = 10.0,
        answer_timeout_s: float = 60.0,
        reconnect_s: float = 60.0,
    ):
        settings = {
            "execution": execution,
            "execution_horizon": execution_horizon,
            "ensemble_weight": ensemble_weight,
            "control_hz": control_hz,
            "dataset": dataset,
        }
        self._session = new_session(session_id, seed, settings, keeps_token=resume_after_restart)
        self._url, self._credentials = url, Credentials(api_key, ca_file, client_cert)
        self.deadline_ms = checked_limit_ms(deadline_ms)
        """How old an image may become; infinity if there is no deadline."""
        self._connect_timeout_s, self._answer_timeout_s = connect_timeout_s, answer_timeout_s
        self._reconnect_s = reconnect_s
        self._connection = self._connected(Retries(url, reconnect_s))
        self._opening: Optional[Future[Connection]] = None
        """The next connection, while it is being opened."""
        self._image_taken_at = 0.0
        """When the image of the last step was taken."""

    @property
    def metadata(self) -> Metadata:
        """The policy's inputs and outputs, as the server described them when the last connection opened."""
        return self._connection.metadata

    @property
    def session_id(self) -> str:
        """The session's id at the server; it ends in "+1" and so on if a first step had to be repeated."""
        return self._session.id

    @property
    def seed(self) -> int:
        """The seed, which determines the policy's noise together with the step."""
        return self._session.seed

    @property
    def execution(self) -> str:
        """How the server executes the policy's chunks."""
        return self._session.settings.get("execution", self.metadata.execution)

    @property
    def sequence(self) -> int:
        """The number of the last step, -1 before the first."""
        return self._session.sequence

    def act(
        self,
        images: Union[Mapping[str, np.ndarray], np.ndarray],
        instruction: str = "",
        proprio: Optional[np.ndarray] = None,
        *,
        obs_time: Optional[float] = None,
    ) -> np.ndarray:
        """Return the action to execute now, `action_dim` numbers in the units of `metadata.action_units`.

        `images` are uint8 [height, width, 3] RGB, by camera name; a single array is the first camera's image. They
        count as taken now, or at `obs_time`, a time of `time.monotonic()`. `metadata` says whether the policy reads an
        instruction, and which cameras and whether `proprio` are required.

        Raises:
            ObservationError: an image is of a camera that the policy does not have, or something required is missing.
            DeadlineExceeded, PolicyError, SessionLost, Unreachable: see `infer`.
        """
        cameras = self.metadata.camera_names
        by_camera = images if isinstance(images, Mapping) else {cameras[0]: images}
        if unknown := sorted(set(by_camera).difference(cameras)):
            raise ObservationError(
                f"this policy has no camera '{unknown[0]}'", hint=f"send images of: {', '.join(cameras)}"
            )
        missing = [camera.name for camera in self.metadata.cameras if camera.required and camera.name not in by_camera]
        if self.metadata.requires_proprio and proprio is None:
            missing.append("proprio")
        if missing:
            raise ObservationError(
                f"this policy requires what is missing: {', '.join(missing)}", hint="send it in every observation"
            )
        time_fields = {} if obs_time is None else {"obs_time": obs_time}
        return first_action(self.infer({**by_camera, "instruction": instruction, "proprio": proprio, **time_fields}))

    def infer(
        self,
        observation: Mapping[str, Any],
        *,
        deadline_ms: Optional[float] = None,
        sequence: Optional[int] = None,
        inference_delay: Optional[int] = None,
    ) -> dict[str, Any]:
        """Return the whole answer to an observation, in openpi's form: `actions`, `session` and timings.

        The first row of `actions` (rows, `action_dim`) is the action to execute now; arrays are read-only. Every call
        is one control step, even if it raises. `sequence` sets the number of the step: a higher one skips steps, and
        the last one again returns the last answer, or after an error tries the step again.

        With an execution that continues chunks (rtc, aligned, blended) the robot executes `inference_delay` steps until
        it has the answer; the first so many rows are the last chunk's. None has the server measure it; the answer's
        `session` says what it was.

        `deadline_ms` replaces the policy's deadline for this step; infinity means none. It counts from the call, or
        from the observation's `obs_time`, a time of `time.monotonic()`. If the last step is repeated, it counts from
        that step's first call.

        Raises:
            DeadlineExceeded: no answer came before the deadline.
            PolicyError: the server sent an error.
            Unauthorized: the API key was revoked or has expired.
            SessionLost: the server has forgotten the episode.
            Unreachable: no answer came within reconnect_s and one more attempt.
            ObservationError: the observation cannot be sent.
        """
        check_fields(observation)
        session = self._session
        limit_ms = self.deadline_ms if deadline_ms is None else checked_limit_ms(deadline_ms)
        if sequence != session.sequence or session.begins:
            self._image_taken_at = time_seen(None if math.isinf(limit_ms) else observation.get("obs_time"))
        session.sequence = session.sequence + 1 if sequence is None else sequence
        deadline = Deadline(seen_at=self._image_taken_at, limit_ms=limit_ms)
        delay = {} if inference_delay is None else {"inference_delay": inference_delay}
        answer = self._answer({**observation, **delay}, deadline)
        session.answered(answer["session"])
        deadline.check("the answer came too late")
        return answer

    def reset(self, seed: Optional[int] = None) -> None:
        """Let the next step start a new episode; None keeps the seed."""
        self._session.begin(seed)

    def close(self) -> None:
        """End the session and close the connection; a later step starts a new episode on a new connection."""
        if self._opening is not None:
            self._opening.add_done_callback(lambda opening: opening.exception() or opening.result().close())
            self._opening = None
        if self._connection.is_open:
            if not self._session.begins:
                end_session(self._url, self._credentials, self._session.id)
            self._connection.close()
        self._session.begin(None)

    def __enter__(self) -> "Policy":
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    def _answer(self, observation: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        """Return the answer to the current step, on as many connections as necessary."""
        retries = Retries(self._url, self._reconnect_s)
        failure: Optional[Exception] = None
        while True:
            self._reconnect(retries, failure, deadline)
            try:
                return self._asked(observation, deadline)
            except (OSError, WebSocketException) as error:
                failure = error
            except PolicyError as error:
                if error.code != "invalid_token" or self._session.token is None:
                    raise
                # The token is too old or another server's. Asking by id shows whether the session still exists.
                self._session.token = None

    def _asked(self, observation: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        """Return the answer to the current step, in one attempt."""
        connection, session = self._connection, self._session
        left_ms = 1e3 * deadline.left_s
        deadline.check("the observation was not sent")
        last = connection.last_answer_at
        may_be_forgotten = last is None or time.monotonic() - last > _LONG_PAUSE_S
        # The server drops a step whose deadline has passed.
        time_left = {} if math.isinf(left_ms) else {"deadline_ms": left_ms}
        message = {**observation, **time_left, **trace_fields(), **session.step_fields(as_token=may_be_forgotten)}
        try:
            answer = connection.ask(message, deadline, self._answer_timeout_s)
            if answer["session"]["sequence"] != session.sequence:
                connection.drop()
                raise ConnectionAbortedError(f"the answer to step {session.sequence} is that to another step")
            return answer
        finally:
            if not connection.is_open:
                session.left_unanswered()

    def _reconnect(self, retries: Retries, failure: Optional[Exception], deadline: Deadline) -> None:
        """Make sure that the connection is open. If the deadline passes first, the next step takes over the attempt."""
        if self._connection.is_open:
            return
        self._opening = self._opening or background.start(lambda: self._connected(retries, failure))
        while not background.is_done_within(self._opening, deadline.left_s):
            deadline.check(f"still connecting to {self._url}")
        opened, self._opening = self._opening, None
        self._connection = opened.result()

    def _connected(self, retries: Retries, failure: Optional[Exception] = None) -> Connection:
        """Return a new connection; `failure` is why the last one ended."""
        while True:
            if failure is not None:
                retries.pause_after(failure)
            # The server sends the greeting when the policy is loaded.
            patience_s = max(retries.left_s, self._connect_timeout_s)
            try:
                return Connection(
                    self._url,
                    self._credentials,
                    connect_timeout_s=self._connect_timeout_s,
                    greeting_timeout_s=patience_s,
                )
            except (OSError, WebSocketException) as error:
                failure = error


def first_action(answer: Mapping[str, Any]) -> np.ndarray:
    """Return a copy of the action to execute now, (action_dim,)."""
    return np.array(answer["actions"][0])
