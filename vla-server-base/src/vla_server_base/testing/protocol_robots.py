"""Robots of every protocol, to try a live server with: each sees by its cameras and gets the action to execute now.

They write what the protocols' own clients write; conformance/ holds those clients themselves.
"""

import io
from abc import ABC, abstractmethod
from contextlib import ExitStack
from typing import Any

import httpx
import msgspec
import numpy as np
from websockets.sync.client import ClientConnection, connect

from vla_client.message_pack import pack, unpack
from vla_server_base.contract import Image
from vla_server_base.protocols import json_numpy

TIMEOUT_S = 60.0


class Robot(ABC):
    """A robot at a server, one session of it."""

    @abstractmethod
    def begin(self, seed: int) -> None:
        """Begin an episode."""

    @abstractmethod
    def act(self, picture: Image | None, instruction: str, wrist: Image | None = None) -> np.ndarray:
        """Return the action to execute now, (action_dim,); None is a camera that misses this frame."""

    @abstractmethod
    def close(self) -> None:
        """Leave."""


class OpenpiRobot(Robot):
    """A robot on a WebSocket, as openpi's clients talk."""

    def __init__(self, url: str):
        self._closing, self._socket = _connected(url, "/")
        self._start: dict[str, Any] = {}
        self._socket.recv(TIMEOUT_S)

    def begin(self, seed: int) -> None:
        """Begin an episode."""
        self._start = {"reset": True, "seed": seed}

    def act(self, picture: Image | None, instruction: str, wrist: Image | None = None) -> np.ndarray:
        """Return the action to execute now."""
        seen = _there({"observation/image": picture, "observation/wrist_image": wrist})
        self._socket.send(pack({**seen, "prompt": instruction, **self._start}))
        self._start = {}
        return unpack(self._socket.recv(TIMEOUT_S))["actions"][0]

    def close(self) -> None:
        """Leave."""
        self._closing.close()


class VlaEvalRobot(Robot):
    """A robot on a WebSocket, as vla-eval's harness talks."""

    def __init__(self, url: str):
        self._closing, self._socket = _connected(url, "/vla-eval")
        self._say("hello", {})
        self._socket.recv(TIMEOUT_S)

    def begin(self, seed: int) -> None:
        """Begin an episode."""
        self._say("episode_start", {"seed": seed})

    def act(self, picture: Image | None, instruction: str, wrist: Image | None = None) -> np.ndarray:
        """Return the action to execute now."""
        seen = _there({"primary": picture, "wrist": wrist})
        self._say("observation", {"images": seen, "task_description": instruction})
        return unpack(self._socket.recv(TIMEOUT_S))["payload"]["actions"]

    def close(self) -> None:
        """Leave."""
        self._closing.close()

    def _say(self, kind: str, payload: dict[str, Any]) -> None:
        self._socket.send(pack({"type": kind, "payload": payload, "seq": 0, "timestamp": 0.0}))


class OpenvlaRobot(Robot):
    """A robot that posts, as OpenVLA's clients do; it names its session, for others may have its address."""

    def __init__(self, url: str, session_id: str):
        self._client = httpx.Client(base_url=url, timeout=TIMEOUT_S)
        self._session_id = session_id

    def begin(self, seed: int) -> None:
        """Begin an episode."""
        self._post("/reset", {"seed": seed})

    def act(self, picture: Image | None, instruction: str, wrist: Image | None = None) -> np.ndarray:
        """Return the action to execute now."""
        seen = _there({"image": picture, "wrist_image": wrist})
        return json_numpy.loads(self._post("/act", {**seen, "instruction": instruction}))

    def close(self) -> None:
        """Leave."""
        self._client.close()

    def _post(self, path: str, message: dict[str, Any]) -> str:
        content = json_numpy.dumps({**message, "session_id": self._session_id})
        return self._client.post(path, content=content).raise_for_status().text


class Gr00tRobot(Robot):
    """A robot on a ZeroMQ socket, as GR00T's clients talk."""

    def __init__(self, port: int):
        import zmq

        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.REQ)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.RCVTIMEO, int(1e3 * TIMEOUT_S))
        self._socket.connect(f"tcp://127.0.0.1:{port}")

    def begin(self, seed: int) -> None:
        """Begin an episode."""
        self._ask("reset", {"options": {"seed": seed}})

    def act(self, picture: Image | None, instruction: str, wrist: Image | None = None) -> np.ndarray:
        """Return the action to execute now."""
        video = {name: _npy(seen[None, None]) for name, seen in _there({"primary": picture, "wrist": wrist}).items()}
        said = {"video": video, "language": {"task": [[instruction]]}}
        actions, _ = self._ask("get_action", {"observation": said})
        chunks = [np.load(io.BytesIO(array["as_npy"]), allow_pickle=False) for array in actions.values()]
        return np.array([chunk[0, 0, 0] for chunk in chunks])

    def close(self) -> None:
        """Leave."""
        self._context.destroy()

    def _ask(self, endpoint: str, data: dict[str, Any]) -> Any:
        self._socket.send(msgspec.msgpack.encode({"endpoint": endpoint, "data": data}))
        return msgspec.msgpack.decode(self._socket.recv())


def _connected(url: str, path: str) -> tuple[ExitStack, ClientConnection]:
    closing = ExitStack()
    return closing, closing.enter_context(connect(url.replace("http", "ws", 1) + path, compression=None, max_size=None))


def _there(pictures: dict[str, Image | None]) -> dict[str, Image]:
    return {name: picture for name, picture in pictures.items() if picture is not None}


def _npy(array: np.ndarray) -> dict[str, Any]:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return {"__ndarray_class__": True, "as_npy": file.getvalue()}
