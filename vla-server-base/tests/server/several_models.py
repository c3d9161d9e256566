"""A server with several echoes, each of which says in its actions which one it is."""

import threading
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import httpx
import numpy as np
from echo_server import of_one_colour, wait_until, wait_until_healthy

from vla_server_base.config import ServerConfig
from vla_server_base.errors import ModelUnavailable
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing import EchoAdapter

IMAGE = of_one_colour(90, 90, 90)
TASK = {"instruction": "go", "image": IMAGE}


class Numbered(EchoAdapter):
    """An echo whose first number is its own. Until they open, `gate` holds up its load, `device` its predictions."""

    def __init__(self, number: float, **changes):
        self.number, self.changes = number, MappingProxyType(changes)
        self.gate, self.device, self.is_loading = threading.Event(), threading.Event(), threading.Event()
        self.has_begun = threading.Event()
        self.device.set()
        self.error: Exception | None = None

    def load_model(self, model_id: str, device: str, cache_dir: Path) -> None:
        self.is_loading.set()
        assert self.gate.wait(60)
        if self.error is not None:
            raise self.error

    def predict(self, batch):
        self.has_begun.set()
        assert self.device.wait(60)
        chunks = super().predict(batch)
        for each in chunks:
            each[..., 0] = self.number
        return chunks


class Lab:
    """A server, its first model `numbered://1`, and the adapters that it has made for others, by their number."""

    def __init__(self, **settings):
        self.prepared: dict[int, Numbered] = {}
        first = Numbered(1)
        first.gate.set()
        config = ServerConfig(**{"scene_workers": 1, "models": "on", "model_sources": "numbered://*", **settings})
        self.app = create_vla_app(first, config, model_id="numbered://1", make_adapter=self._make)

    def prepare(self, number: int, *, is_open: bool = True, **changes) -> Numbered:
        """Return the adapter that the server will get for a number; its load waits unless `is_open`."""
        self.prepared[number] = adapter = Numbered(number, **changes)
        if is_open:
            adapter.gate.set()
        return adapter

    def _make(self, model: str) -> Numbered:
        number = int(model.removeprefix("numbered://"))
        if number not in self.prepared:
            self.prepare(number)
        return self.prepared.pop(number)

    @staticmethod
    def at(url: str) -> httpx.Client:
        return httpx.Client(base_url=url, timeout=60)

    @property
    def service(self):
        return self.app.state.service

    @contextmanager
    def open(self):
        with serving(self.app) as self.url, httpx.Client(base_url=self.url, timeout=60) as self.client:
            wait_until_healthy(self.url)
            yield self

    def load(self, number: int, **fields) -> httpx.Response:
        return self.client.post("/models", json={"model": f"numbered://{number}", "id": f"m{number}", **fields})

    def model(self, model: str) -> dict:
        return self.client.get(f"/models/{model}").json()

    def wait_for(self, model: str, state: str) -> dict:
        wait_until(lambda: self.model(model).get("state") == state)
        return self.model(model)

    def bring_up(self, number: int, **fields) -> dict:
        """Load a model and wait until it is warm."""
        assert self.load(number, **fields).status_code == 202
        return self.wait_for(f"m{number}", {"shadow": "shadow", "hold": "ready"}.get(fields.get("mode", ""), "serving"))

    def predict(self, **fields) -> dict:
        return self.client.post("/predict", json={**TASK, **fields}).json()

    def number(self, **fields) -> tuple[float, str]:
        """Return which model's action a request gets, and the model that the reply names."""
        reply = self.predict(**fields)
        return reply["action"][0], reply["model"]


def unavailable(why: str) -> ModelUnavailable:
    return ModelUnavailable(why, hint="load another")


def is_number(action, number: float) -> bool:
    return bool(np.isclose(action[0], number))
