"""Robots that ask a policy server for actions while pages watch them: over vla_client's WebSocket, and over HTTP."""

import base64
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import numpy as np
from PIL import Image

from vla_client import Policy

INSTRUCTION = "pick up the red cube"
Observation = dict[str, str]
"""Images by camera: PNG as base64."""


class HttpRobot:
    """A session of `POST /predict`."""

    def __init__(self, url: str, session: str, seed: int = 0):
        self.session, self._seed = session, seed
        self._client = httpx.Client(base_url=url, timeout=60)

    def act(self, images: Observation) -> list[float]:
        step = {"session_id": self.session, "seed": self._seed, "instruction": INSTRUCTION, "images": images}
        reply = self._client.post("/predict", json=step)
        assert reply.is_success, reply.text
        return reply.json()["action"]

    def end(self) -> None:
        self._client.delete(f"/sessions/{self.session}")
        self._client.close()


@contextmanager
def http_robot(url: str, session: str) -> Iterator[HttpRobot]:
    robot = HttpRobot(url, session)
    try:
        yield robot
    finally:
        robot.end()


class ClientRobot:
    """A robot whose control loop uses `vla_client.Policy`."""

    def __init__(self, policy: Policy):
        self._policy = policy

    def act(self, images: Observation) -> list[float]:
        return self._policy.act({name: pixels(image) for name, image in images.items()}, INSTRUCTION).tolist()


@contextmanager
def client_robot(url: str, session: str) -> Iterator[ClientRobot]:
    with Policy(url.replace("http", "ws", 1), session_id=session, seed=0) as policy:
        yield ClientRobot(policy)
    httpx.delete(f"{url}/sessions/{session}")


def pixels(image: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(image))).convert("RGB"))


def episode_images(url: str, num_steps: int) -> list[Observation]:
    """Run an episode and return what its cameras saw."""
    body = {"instruction": INSTRUCTION, "xml_string": tabletop(url), "seed": 0, "max_steps": num_steps}
    with httpx.Client(base_url=url, timeout=120) as client:
        reply = client.post("/episodes", json={**body, "frames": "png", "pace": "fast"})
        assert reply.is_success, reply.text
        with client.stream("GET", f"/episodes/{reply.json()['episode_id']}/events") as events:
            data = [json.loads(line[6:]) for line in events.iter_lines() if line.startswith("data: ")]
    return [event["images"] for event in data if event.get("images")]


def tabletop(url: str) -> str:
    return httpx.get(f"{url}/scenes/panda/tabletop").text
