"""Sessions whose chunks continue the last one, as clients see them by POST /predict and over a WebSocket."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import httpx
import numpy as np
import pytest
from echo_server import echo_app, of_one_colour, wait_until_healthy
from jaxtyping import Float

from vla_client import Policy
from vla_server_base.contract import PolicySpec, PreviousChunk
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing import EchoAdapter

Turn = Callable[..., tuple[Float[np.ndarray, "rows numbers"], dict]]
"""What asks for a chunk, given a sequence, a level of red and more fields; it returns the actions and the session."""


@contextmanager
def by_http(url: str, **settings) -> Iterator[Turn]:
    name = f"robot-{next(_NUMBERS)}"
    with httpx.Client(base_url=url) as client:

        def turn(sequence: int, level: int, **fields):
            image = of_one_colour(level, 0, 0)
            body = {"instruction": "go", "image": image, "session_id": name, "sequence": sequence, "seed": 5}
            response = client.post("/predict", json=body | settings | fields)
            assert response.status_code == 200, response.text
            return np.array(response.json()["actions"]), response.json()["session"]

        yield turn


@contextmanager
def by_websocket(url: str, **settings) -> Iterator[Turn]:
    with Policy(url.replace("http", "ws"), seed=5, **settings) as policy:

        def turn(sequence: int, level: int, **fields):
            image = np.full((64, 64, 3), [level, 0, 0], np.uint8)
            answer = policy.infer({"primary": image, "instruction": "go"}, sequence=sequence, **fields)
            return answer["actions"], answer["session"]

        yield turn


_NUMBERS = itertools.count()
DOORS = pytest.mark.parametrize("door", [by_http, by_websocket])
EXECUTIONS = pytest.mark.parametrize("execution", ["rtc", "aligned", "blended"])


class GuidedEcho(EchoAdapter):
    """An echo that can be guided: it adds a tenth of the old chunk to the rows that are not frozen."""

    def __init__(self) -> None:
        self.previous: list[PreviousChunk | None] = []

    @property
    def spec(self) -> PolicySpec:
        return replace(super().spec, supports_rtc=True)

    def predict(self, batch):
        chunks = super().predict(batch)
        for policy_input, of_input in zip(batch, chunks, strict=True):
            self.previous.append(policy_input.previous)
            if policy_input.previous is not None:
                num_rows = len(policy_input.previous.actions)
                of_input[:, :num_rows] += 0.1 * policy_input.previous.actions
        return chunks


@pytest.fixture(scope="module")
def guided():
    return GuidedEcho()


@pytest.fixture(scope="module")
def url(guided):
    with serving(echo_app(guided)) as url:
        wait_until_healthy(url)
        yield url


@DOORS
@EXECUTIONS
def test_the_first_rows_are_the_old_chunks_also_after_skipped_steps(url, door, execution):
    with door(url, execution=execution) as turn:
        chunk, session = turn(0, 51)
        assert session["inference_delay"] == 0
        for sequence, skipped, delay in ((1, 1, 2), (3, 2, 1), (4, 1, 3)):
            following, session = turn(sequence, 40 * sequence, inference_delay=delay)
            assert session["inference_delay"] == delay
            np.testing.assert_array_equal(following[:delay], chunk[skipped : skipped + delay])
            assert not np.allclose(following[delay], chunk[skipped + delay] if skipped + delay < 4 else 0)
            chunk = following
