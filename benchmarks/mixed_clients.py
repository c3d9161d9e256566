"""Clients of each protocol for benchmarks: a session each, whose images, and so whose actions, follow from its seed."""

import base64
import io
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from vla_server_base.scenes.library import bundled_scene
from vla_server_base.testing.protocol_robots import (
    Gr00tRobot,
    OpenpiRobot,
    OpenvlaRobot,
    ProtocolRobot,
    VlaEvalRobot,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "vla-server-base" / "tests" / "protocols"))

from lerobot_pickles import pickled_observation, pickled_setup, timed_actions

INSTRUCTION = "pick up the red cube"
SCENE = bundled_scene("widowx", "tabletop")
TIMEOUT_S = 120.0
SIZE = 128


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a server is: its URL, and the ports of their own that some protocols have."""

    url: str
    zmq_port: int
    lerobot_port: int


class Client(ABC):
    """One client in one session."""

    @abstractmethod
    def ask(self, step: int) -> np.ndarray:
        """Send step number `step`, and return the actions; raises what its library does."""

    @abstractmethod
    def close(self) -> None:
        """Disconnect."""


class Robot(Client):
    """A robot of one of the protocols."""

    def __init__(self, robot: ProtocolRobot, seed: int):
        self._robot, self._seed = robot, seed
        robot.begin(seed)

    def ask(self, step: int) -> np.ndarray:
        """Send an image."""
        return np.asarray(self._robot.act(image_of(self._seed, step), INSTRUCTION), np.float32)

    def close(self) -> None:
        """Disconnect."""
        self._robot.close()


class HttpClient(Client):
    """A client of one of the server's own routes; `request` makes what httpx sends of a seed and a step."""

    def __init__(self, url: str, seed: int, path: str, request: Callable[[int, int], dict[str, Any]]):
        self._client, self._seed, self._path, self._request = (
            httpx.Client(base_url=url, timeout=TIMEOUT_S),
            seed,
            path,
            request,
        )

    def ask(self, step: int) -> np.ndarray:
        """Post a step."""
        reply = self._client.post(self._path, **self._request(self._seed, step)).raise_for_status().json()
        return np.asarray(reply["actions"], np.float32)

    def close(self) -> None:
        """Disconnect."""
        self._client.close()


class Prober(Client):
    """An orchestrator that asks KServe's health and metadata paths."""

    def __init__(self, url: str):
        self._client = httpx.Client(base_url=url, timeout=TIMEOUT_S)

    def ask(self, step: int) -> np.ndarray:
        """Get one of the paths."""
        path = ("/v2/health/live", "/v2/health/ready", "/v2")[step % 3]
        self._client.get(path).raise_for_status()
        return np.zeros(0, np.float32)

    def close(self) -> None:
        """Disconnect."""
        self._client.close()


class LerobotRobot(Client):
    """A robot that speaks LeRobot's gRPC."""

    def __init__(self, port: int, seed: int):
        import grpc

        # A pool of its own, or the connections of one process were one, and so one session.
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)])
        self._seed = seed
        self._call("Ready", b"")
        self._call("SendPolicyInstructions", _field(1, pickled_setup(lerobot_features={}, actions_per_chunk=4)))

    def ask(self, step: int) -> np.ndarray:
        """Send an image, and take the actions."""
        observation = {"front": image_of(self._seed, step), "task": INSTRUCTION, "seed": self._seed}
        message = b"\x08\x03" + _field(2, pickled_observation(observation, timestep=step))
        observe = self._channel.stream_unary("/transport.AsyncInference/SendObservations")
        observe(iter([message]), timeout=TIMEOUT_S)
        actions: list[Any] = []
        while not actions:
            answer = self._call("GetActions", b"")
            actions = timed_actions(_content(answer)) if answer else []
        return np.array([each.action for each in actions], np.float32)

    def close(self) -> None:
        """Disconnect."""
        self._channel.close()

    def _call(self, name: str, message: bytes) -> bytes:
        return self._channel.unary_unary(f"/transport.AsyncInference/{name}")(message, timeout=TIMEOUT_S)


def image_of(seed: int, step: int) -> np.ndarray:
    """Return what the client of a seed sees at a step."""
    return np.random.default_rng([seed, step]).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


def png_of(seed: int, step: int) -> bytes:
    """Return the same as a file."""
    buffer = io.BytesIO()
    Image.fromarray(image_of(seed, step)).save(buffer, "PNG")
    return buffer.getvalue()


def _in_json(seed: int, step: int) -> dict[str, Any]:
    image = base64.b64encode(png_of(seed, step)).decode()
    return {"json": {"instruction": INSTRUCTION, "image": image, "session_id": f"json-{seed}", "seed": seed}}


def _in_parts(seed: int, step: int) -> dict[str, Any]:
    fields = {"instruction": INSTRUCTION, "session_id": f"parts-{seed}", "seed": str(seed)}
    return {"data": fields, "files": {"image": ("image.png", png_of(seed, step), "image/png")}}


def _of_scene(seed: int, step: int) -> dict[str, Any]:
    return {"json": {"instruction": INSTRUCTION, "xml_string": SCENE, "seed": 1000 * seed + step}}


def _episode(seed: int, step: int) -> dict[str, Any]:
    return {"json": {"instruction": INSTRUCTION, "xml_string": SCENE, "seed": 1000 * seed + step, "max_steps": 2}}


KINDS: dict[str, Callable[[Address, int], Client]] = {
    "/predict, JSON": lambda at, seed: HttpClient(at.url, seed, "/predict", _in_json),
    "openpi's WebSocket": lambda at, seed: Robot(OpenpiRobot(at.url), seed),
    "/predict, multipart": lambda at, seed: HttpClient(at.url, seed, "/predict", _in_parts),
    "/act": lambda at, seed: Robot(OpenvlaRobot(at.url, f"act-{seed}"), seed),
    "vla-eval's WebSocket": lambda at, seed: Robot(VlaEvalRobot(at.url), seed),
    "GR00T's ZeroMQ": lambda at, seed: Robot(Gr00tRobot(at.zmq_port), seed),
    "LeRobot's gRPC": lambda at, seed: LerobotRobot(at.lerobot_port, seed),
    "/predict, scene": lambda at, seed: HttpClient(at.url, seed, "/predict", _of_scene),
    "/execute": lambda at, seed: HttpClient(at.url, seed, "/execute", _episode),
    "KServe's probes": lambda at, _seed: Prober(at.url),
}


def _field(number: int, data: bytes) -> bytes:
    """Return a protobuf field of bytes."""
    length, size = b"", len(data)
    while True:
        more = size > 0x7F
        length += bytes([(size & 0x7F) | (0x80 if more else 0)])
        size >>= 7
        if not more:
            return bytes([number << 3 | 2]) + length + data


def _content(message: bytes) -> bytes:
    """Return the bytes of a protobuf message with one field."""
    start = 1
    while message[start] & 0x80:
        start += 1
    return message[start + 1 :]
