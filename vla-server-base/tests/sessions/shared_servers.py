"""Servers that share their sessions, and ways to ask now the one and now the other."""

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import httpx
import msgspec
import numpy as np
from echo_server import of_one_colour, wait_until_loaded
from websockets.sync.client import ClientConnection, connect

from vla_client.message_pack import pack, unpack
from vla_server_base.config import ServerConfig
from vla_server_base.errors import Unavailable
from vla_server_base.protocols import json_numpy
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.backend import Backend
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.sessions.store import MemoryStore, SessionKey, StoredSession
from vla_server_base.testing import EchoAdapter

TIMEOUT_S = 60.0
ALONE = httpx.Limits(max_keepalive_connections=0)


class WindowEcho(EchoAdapter):
    """An echo of a longer window, whose answer says how it begins, too."""

    changes: Mapping[str, Any] = MappingProxyType({"window": 3})

    def predict(self, batch):
        chunks = super().predict(batch)
        for policy_input, of_input in zip(batch, chunks, strict=True):
            of_input[:, :, 1] += 10 * policy_input.observation["colours"][0, 0, 0, 0]
        return chunks


class HeldEcho(WindowEcho):
    """One whose device can be held up."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.num_predicted = 0

    def predict(self, batch):
        self.num_predicted += len(batch)
        self.gate.wait(TIMEOUT_S)
        return super().predict(batch)


class CommonStore:
    """A MemoryStore for servers on several threads, which can stop answering and lose everything."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._store = MemoryStore(2**26, 600.0)
        self.is_reachable = True
        self.holds_next_answer = False
        self.released = threading.Event()
        """What a held answer waits for."""
        self.num_loads = self.num_saves = 0

    def lose_everything(self) -> None:
        """Begin again, empty."""
        self._store = MemoryStore(2**26, 600.0)

    def change_content(self, session_id: str, **changes: Any) -> None:
        """Save a session with other content, as another server would."""

        async def change() -> None:
            key = "", session_id
            stored = await self._store.load_newer(key, 0)
            assert stored is not None, "it was saved"
            content = {**msgspec.msgpack.decode(stored.content or b""), **changes}
            await self._store.save(key, stored.version + 1, msgspec.msgpack.encode(content))

        with self._lock:
            asyncio.run(change())

    async def load_newer(self, key: SessionKey, version: int) -> StoredSession | None:
        self._check()
        with self._lock:
            self.num_loads += 1
            return await self._store.load_newer(key, version)

    async def save(self, key: SessionKey, version: int, content: bytes | None) -> bool:
        self._check()
        with self._lock:
            self.num_saves += 1
            is_saved = await self._store.save(key, version, content)
        if self.holds_next_answer:
            self.holds_next_answer = False
            while not self.released.is_set():
                await asyncio.sleep(0.01)
            raise Unavailable("the session store did not answer in time", hint="send it again")
        return is_saved

    def _check(self) -> None:
        if not self.is_reachable:
            raise Unavailable("the session store does not answer", hint="send it again")


@dataclass
class Servers:
    """Running servers, by their URLs; each request by HTTP has a connection of its own."""

    urls: Sequence[str]
    store: CommonStore | None = None
    adapters: Sequence[EchoAdapter] = ()
    client: httpx.Client = field(default_factory=lambda: httpx.Client(verify=False, limits=ALONE, timeout=TIMEOUT_S))

    def post(self, server: int, level: int = 51, *, timeout_s: float = TIMEOUT_S, **body: Any) -> httpx.Response:
        """Send a step; a field of None is left out."""
        message = {"instruction": "go", "image": of_one_colour(level, 0, 0), "session_id": "arm", **body}
        message = {name: value for name, value in message.items() if value is not None}
        return self.client.post(f"{self.urls[server]}/predict", json=message, timeout=timeout_s)

    def predict(self, server: int, level: int, **body: Any) -> dict[str, Any]:
        response = self.post(server, level, **body)
        assert response.status_code == 200, response.text
        return response.json()

    def refused(self, server: int, **body: Any) -> tuple[int, str]:
        response = self.post(server, **body)
        assert response.status_code != 200, response.text
        return response.status_code, response.json()["error"]["code"]

    def delete(self, server: int, session_id: str = "arm") -> httpx.Response:
        return self.client.delete(f"{self.urls[server]}/sessions/{session_id}")

    def session_ids(self, server: int) -> list[str]:
        sessions = self.client.get(f"{self.urls[server]}/sessions").json()["sessions"]
        return [each["id"] for each in sessions]


@contextmanager
def shared_servers(folder, number: int = 2, adapter=WindowEcho, **settings) -> Iterator[Servers]:
    """Servers with one store; a single one has none, and says what several have to answer."""
    store = CommonStore() if number > 1 else None
    with ExitStack() as stack:
        adapters = [adapter() for _ in range(number)]
        urls = [stack.enter_context(one_server(each, folder, store, **settings)) for each in adapters]
        yield Servers(urls, store, adapters)


@contextmanager
def one_server(adapter, folder, store: CommonStore | None, model_id: str = "echo", **settings) -> Iterator[str]:
    config = ServerConfig(**{"scene_workers": 1, "cache_dir": folder, "console": "off", **settings})
    with serving(create_vla_app(adapter, config, model_id=model_id, backend=Backend(session_store=store))) as url:
        wait_until_loaded(url)
        yield url


class Turns:
    """A robot's requests in one protocol, each to the server that is named; without a `session_id`, in its own."""

    def __init__(self, servers: Servers, session_id: str | None):
        self.servers, self.session_id = servers, session_id

    def ask(self, server: int, level: int, **fields: Any) -> np.ndarray:
        """Return the numbers of the answer."""
        raise NotImplementedError

    def close(self) -> None:
        """Disconnect."""

    @property
    def _names(self) -> dict[str, str]:
        return {} if self.session_id is None else {"session_id": self.session_id}


class PredictTurns(Turns):
    def ask(self, server: int, level: int, **fields: Any) -> np.ndarray:
        return np.array(self.servers.predict(server, level, **self._names, **fields)["actions"])


class ActTurns(Turns):
    def ask(self, server: int, level: int, **fields: Any) -> np.ndarray:
        message = {"image": picture(level), "instruction": "go", **self._names, **fields}
        url, content = f"{self.servers.urls[server]}/act", json_numpy.dumps(message)
        return np.array(json_numpy.loads(self.servers.client.post(url, content=content).raise_for_status().text))


class AddressTurns(ActTurns):
    """A robot that names no session, as OpenVLA's clients: its session is its address's."""

    def __init__(self, servers: Servers, _session_id: str | None):
        super().__init__(servers, None)


class SocketTurns(Turns):
    """A robot with a connection to each server."""

    path = "/"

    def __init__(self, servers: Servers, session_id: str | None):
        super().__init__(servers, session_id)
        self._closing = ExitStack()
        self._sockets = [self._connected(url) for url in servers.urls]

    def ask(self, server: int, level: int, **fields: Any) -> np.ndarray:
        socket = self._sockets[server]
        socket.send(self._message(level, {**self._names, **fields}))
        return self._actions(socket.recv(TIMEOUT_S))

    def close(self) -> None:
        self._closing.close()

    def _connected(self, url: str) -> ClientConnection:
        opened = connect(url.replace("http", "ws", 1) + self.path, compression=None, max_size=None)
        socket = self._closing.enter_context(opened)
        self._greet(socket)
        return socket

    def _greet(self, socket: ClientConnection) -> None:
        socket.recv(TIMEOUT_S)

    def _message(self, level: int, fields: dict[str, Any]) -> bytes:
        return pack({"observation/image": picture(level), "prompt": "go", **fields})

    def _actions(self, answer: bytes | str) -> np.ndarray:
        return unpack(answer)["actions"]


class VlaEvalTurns(SocketTurns):
    path = "/vla-eval"

    def _greet(self, socket: ClientConnection) -> None:
        socket.send(_vla_eval("hello", {}))
        socket.recv(TIMEOUT_S)

    def _message(self, level: int, fields: dict[str, Any]) -> bytes:
        return _vla_eval("observation", {"images": {"primary": picture(level)}, "task_description": "go", **fields})

    def _actions(self, answer: bytes | str) -> np.ndarray:
        return unpack(answer)["payload"]["actions"]


def picture(level: int) -> np.ndarray:
    return np.full((8, 8, 3), (level, 0, 0), np.uint8)


def _vla_eval(kind: str, payload: dict[str, Any]) -> bytes:
    return pack({"type": kind, "payload": payload, "seq": 0, "timestamp": 0.0})
