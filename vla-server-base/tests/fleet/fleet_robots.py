"""Robots of three protocols that ask once more, as their programs do, when a connection breaks or a server ends."""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException

import numpy as np

from vla_client import Policy
from vla_server_base.contract import Image
from vla_server_base.protocols import json_numpy
from vla_server_base.request_inputs import encode_png

INSTRUCTION = "pick up the red cube"
PERIOD_S = 0.2
"""Between two control steps [s]."""
_GIVE_UP_S = 90.0


@dataclass(kw_only=True)
class Robot(ABC):
    """One robot in one session. Every connection of the HTTP robots is a new one, so any server may get any step."""

    url: str
    number: int
    episode: str
    actions: list[np.ndarray] = field(default_factory=list)
    answered_at: list[float] = field(default_factory=list)

    @property
    def session_id(self) -> str:
        return f"{self.episode}-{self.number}"

    def step(self) -> None:
        """Do the next step of the episode, whatever it takes."""
        step = len(self.actions)
        image = np.random.default_rng((self.number, step)).integers(0, 256, (48, 64, 3), np.uint8)
        self.actions.append(np.asarray(self.act(image, step)))
        self.answered_at.append(time.monotonic())

    def run(self, num_steps: int) -> list[np.ndarray]:
        """Do so many steps, as fast as possible, and return the actions."""
        for _ in range(num_steps):
            self.step()
        self.close()
        return self.actions

    @property
    def longest_gap(self) -> float:
        """The longest time between two answers, in control steps."""
        return float(np.diff(self.answered_at).max() / PERIOD_S)

    @abstractmethod
    def act(self, image: Image, step: int) -> np.ndarray:
        """Return the action of a step."""

    def close(self) -> None:  # noqa: B027
        """Disconnect; a robot that opens a connection for each step has none."""


@dataclass(kw_only=True)
class ClientRobot(Robot):
    """A robot with our client, on a WebSocket."""

    def __post_init__(self):
        self._policy = Policy(
            self.url.replace("http", "ws"), seed=self.number, session_id=self.session_id, reconnect_s=_GIVE_UP_S
        )

    def act(self, image: Image, step: int) -> np.ndarray:
        return self._policy.act({"primary": image}, INSTRUCTION)

    def close(self) -> None:
        self._policy.close()


class HttpRobot(Robot):
    """A robot that posts JSON to /predict."""

    def act(self, image: Image, step: int) -> np.ndarray:
        body = {
            "image": encode_png(image),
            "instruction": INSTRUCTION,
            "session_id": self.session_id,
            "sequence": step,
            "seed": self.number,
        }
        return np.array(json.loads(_posted(self.url, "/predict", json.dumps(body)))["action"])


class OpenvlaRobot(Robot):
    """A robot that speaks as OpenVLA's clients do."""

    def act(self, image: Image, step: int) -> np.ndarray:
        message = {
            "image": image,
            "instruction": INSTRUCTION,
            "session_id": self.session_id,
            "sequence": step,
            "seed": self.number,
        }
        return json_numpy.loads(_posted(self.url, "/act", json_numpy.dumps(message)))


def robots_of(url: str, num: int, episode: str) -> list[Robot]:
    """Return so many robots, a third of each protocol, in sessions that are named after an episode."""
    kinds = (ClientRobot, HttpRobot, OpenvlaRobot)
    return [kinds[number % len(kinds)](url=url, number=number, episode=episode) for number in range(num)]


def _posted(url: str, path: str, body: str) -> str:
    """Return the reply to a request on a connection of its own, which is repeated until there is one."""
    status, reply = 0, ""
    for _ in _attempts():
        try:
            connection = HTTPConnection(url.removeprefix("http://"), timeout=_GIVE_UP_S)
            with closing(connection):
                connection.request("POST", path, body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                status, reply = response.status, response.read().decode()
        except (OSError, HTTPException):
            continue
        if status != 503:
            break
    assert status == 200, f"{path}: {status} {reply}"
    return reply


def _attempts() -> Iterator[None]:
    until = time.monotonic() + _GIVE_UP_S
    while time.monotonic() < until:
        yield
        time.sleep(0.05)
