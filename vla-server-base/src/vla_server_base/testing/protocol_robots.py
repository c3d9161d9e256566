"""Robots that speak each protocol, to test a running server with: they send images and get the action to execute.

They send what the clients of the protocols send; conformance/ has those clients themselves.
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


class ProtocolRobot(ABC):
    """A robot in one session with a server."""

    @abstractmethod
    def begin(self, seed: int) -> None:
        """Begin an episode."""

    @abstractmethod
    def act(self, image: Image | None, instruction: str, wrist: Image | None = None) -> np.ndarray:
        """Return the action to execute now, (action_dim,); None is a camera without an image now."""

    @abstractmethod
    def close(self) -> None:
        """Disconnect."""


class OpenpiRobot(ProtocolRobot):
    """A robot on a WebSocket, like openpi's clients."""

    def __init__(self, url: str, api_key: str | None = None):
        self._closing, self._socket = _connected(url, "/", {} if api_key is None else openpi_header(api_key))
        self._start: dict[str, Any] = {}
        self._socket.recv(TIMEOUT_S)

    def begin(self, seed: int) -> None:
        """Begin an episode."""
        self._start = {"reset": True, "seed": seed}

    def act(self, image: Image | None, instruction: str, wrist: Image | None = None) -> np.ndarray:
        """Return the action to execute now."""
        images = _present({"observation/image": image, "observation/wrist_image": wrist})
        self._socket.send(pack({**images, "prompt": instruction, **self._start}))
        self._start = {}
        return unpack(self._socket.recv(TIMEOUT_S))["actions"][0]

    def close(self) -> None:
        """Disconnect."""
        self._closing.close()


class VlaEvalRobot(ProtocolRobot):
    """A robot on a WebSocket, like vla-eval's harness."""

    def __init__(self, url: str, api_key: str | None = None):
        self._closing, self._socket = _connected(url, "/vla-eval", {} if api_key is None else bearer(api_key))
        self._say("hello", {})
        self._socket.recv(TIMEOUT_S)

    def begin(self, seed: int) -> None:
        """Begin an episode."""
        self._say("episode_start", {"seed": seed})

    def act(self, image: Image | None, instruction: str, wrist: Image | None = None) -> np.ndarray:
        """Return the action to execute now."""
        images = _present({"primary": image, "wrist": wrist})
        self._say("observation", {"images": images, "task_description": instruction})
        return unpack(self._socket.recv(TIMEOUT_S))["payload"]["actions"]

    def close(self) -> None:
        """Disconnect."""
        self._closing.close()

    def _say(self, kind: str, payload: dict[str, Any]) -> None:
        self._socket.send(pack({"type": kind, "payload": payload, "seq": 0, "timestamp": 0.0}))


class OpenvlaRobot(ProtocolRobot):
    """A robot that uses HTTP, like OpenVLA's clients; it names its session, because robots may share an address."""

    def __init__(self, url: str, session_id: str, api_key: str | None = None):
        headers = {} if api_key is None else bearer(api_key)
        self._client = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S)
        self._session_id = session_id

    def begin(self, seed: int) -> None:
        """Begin an episode."""
        self._post("/reset", {"seed": seed})

    def act(self, image: Image | None, instruction: str, wrist: Image | None = None) -> np.ndarray:
        """Return the action to execute now."""
        images = _present({"image": image, "wrist_image": wrist})
        return json_numpy.loads(self._post("/act", {**images, "instruction": instruction}))

    def close(self) -> None:
        """Disconnect."""
        self._client.close()

    def _post(self, path: str, message: dict[str, Any]) -> str:
        content = json_numpy.dumps({**message, "session_id": self._session_id})
        return self._client.post(path, content=content).raise_for_status().text


class Gr00tRobot(ProtocolRobot):
    """A robot on a ZeroMQ socket, like GR00T's clients."""

    def __init__(self, port: int, api_key: str | None = None):
        import zmq

        self._token = {} if api_key is None else {"api_token": api_key}

        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.REQ)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.RCVTIMEO, int(1e3 * TIMEOUT_S))
        self._socket.connect(f"tcp://127.0.0.1:{port}")

    def begin(self, seed: int) -> None:
        """Begin an episode."""
        self._ask("reset", {"options": {"seed": seed}})

    def act(self, image: Image | None, instruction: str, wrist: Image | None = None) -> np.ndarray:
        """Return the action to execute now."""
        images = _present({"primary": image, "wrist": wrist})
        video = {name: _npy(pixels[None, None]) for name, pixels in images.items()}
        observation = {"video": video, "language": {"task": [[instruction]]}}
        actions, _ = self._ask("get_action", {"observation": observation})
        chunks = [np.load(io.BytesIO(array["as_npy"]), allow_pickle=False) for array in actions.values()]
        return np.array([chunk[0, 0, 0] for chunk in chunks])

    def close(self) -> None:
        """Disconnect."""
        self._context.destroy()

    def _ask(self, endpoint: str, data: dict[str, Any]) -> Any:
        self._socket.send(msgspec.msgpack.encode({"endpoint": endpoint, "data": data, **self._token}))
        return msgspec.msgpack.decode(self._socket.recv())


def bearer(api_key: str) -> dict[str, str]:
    """Return the header that carries an API key."""
    return {"Authorization": f"Bearer {api_key}"}


def openpi_header(api_key: str) -> dict[str, str]:
    """Return the header with which openpi's client sends an API key."""
    return {"Authorization": f"Api-Key {api_key}"}


def _connected(url: str, path: str, headers: dict[str, str]) -> tuple[ExitStack, ClientConnection]:
    closing, address = ExitStack(), url.replace("http", "ws", 1) + path
    opened = connect(address, additional_headers=headers, compression=None, max_size=None)
    return closing, closing.enter_context(opened)


def _present(images: dict[str, Image | None]) -> dict[str, Image]:
    return {name: image for name, image in images.items() if image is not None}


def _npy(array: np.ndarray) -> dict[str, Any]:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return {"__ndarray_class__": True, "as_npy": file.getvalue()}
