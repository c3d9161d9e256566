"""A server whose file of keys changes while it runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from echo_server import echo_app, of_one_colour, wait_until
from free_port import free_port
from required_inputs_robots import Ports

from vla_server_base.access.key_file import read_keys, write_keys
from vla_server_base.access.keys import Key, digest_of, new_secret
from vla_server_base.request_context import Priority
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing.protocol_robots import bearer

CLASSES: dict[str, Priority] = {"arm-1": "robot", "arm-2": "robot", "ann": "human", "night": "batch"}
IMAGE = of_one_colour(255, 0, 0)


@dataclass(frozen=True)
class KeyedServer:
    """A running server, the file of its keys, and their secrets by name."""

    url: str
    zmq_port: int
    lerobot_port: int
    keys_file: Path
    secrets: dict[str, str]

    def client(self, name: str) -> httpx.Client:
        """A client that sends a key."""
        return httpx.Client(base_url=self.url, headers=bearer(self.secrets[name]), timeout=60)

    def ports(self, secret: str) -> Ports:
        """The server's doors, for robots that send a key."""
        return Ports(url=self.url, zmq=self.zmq_port, lerobot=self.lerobot_port, api_key=secret)

    def issue(self, name: str, rate: float) -> str:
        """Add a robot's key with a rate, and return its secret."""
        secret = new_secret()
        write_keys(self.keys_file, [*read_keys(self.keys_file), Key(name=name, digest=digest_of(secret), rate=rate)])
        return secret

    def revoke(self, *names: str) -> None:
        write_keys(self.keys_file, [key for key in read_keys(self.keys_file) if key.name not in names])

    def begin_again(self) -> None:
        """Store all keys again, and end their sessions."""
        write_keys(self.keys_file, stored_keys(self.secrets))
        for name in self.secrets:
            with self.client(name) as client:
                for session in client.get("/sessions").json()["sessions"]:
                    client.delete(f"/sessions/{session['id']}")

    def predict(self, name: str, session_id: str, **body) -> httpx.Response:
        with self.client(name) as client:
            request = {"instruction": "go", "image": IMAGE, "session_id": session_id, **body}
            return client.post("/predict", json=request)


def stored_keys(secrets: dict[str, str]) -> list[Key]:
    return [Key(name=name, digest=digest_of(secrets[name]), priority=CLASSES[name]) for name in CLASSES]


@contextmanager
def keyed_server(folder: Path, **settings) -> Iterator[KeyedServer]:
    secrets, keys_file = {name: new_secret() for name in CLASSES}, folder / "keys.json"
    write_keys(keys_file, stored_keys(secrets))
    zmq_port, lerobot_port = free_port(), free_port()
    ports = {"zmq_port": zmq_port, "lerobot_port": lerobot_port}
    app = echo_app(keys_file=str(keys_file), cache_dir=folder, **ports, **settings)
    with serving(app) as url:
        wait_until(lambda: httpx.get(f"{url}/health", verify=False).is_success)
        yield KeyedServer(url, zmq_port, lerobot_port, keys_file, secrets)
