"""A policy whose actions say which step they answer, and that answers when a test lets it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from vla_server_base.config import ServerConfig
from vla_server_base.contract import PolicySpec
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing import EchoAdapter

HORIZON = 8


class CountingAdapter(EchoAdapter):
    """Answers step s with rows (s, i, s + i, 1), i = 0, 1, ...: `asked_step`, `row`, `x` and the motion `dx`.

    While `may_answer` is cleared, it thinks.
    """

    def __init__(self):
        self.may_answer = threading.Event()
        self.may_answer.set()

    @property
    def spec(self) -> PolicySpec:
        return replace(
            super().spec,
            horizon=HORIZON,
            action_names=("asked_step", "row", "x", "dx"),
            action_units=("1", "1", "m", "m"),
            action_formats=("raw",),
            datasets=(),
            default_dataset=None,
            control_hz=50.0,
        )

    def predict(self, batch):
        assert self.may_answer.wait(60)
        return [answer_to(each.step)[None] for each in batch]

    def un_normalize(self, chunk, dataset):
        return chunk


def answer_to(step: int) -> np.ndarray:
    return np.array([(step, row, step + row, 1.0) for row in range(HORIZON)])


@contextmanager
def counting_server() -> Iterator[tuple[CountingAdapter, str]]:
    adapter = CountingAdapter()
    app = create_vla_app(adapter, ServerConfig(scene_workers=1), model_id="counting")
    with serving(app) as base_url:
        yield adapter, base_url.replace("http", "ws", 1)
