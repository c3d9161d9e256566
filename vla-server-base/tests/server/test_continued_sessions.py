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
def guided_url(guided):
    with serving(echo_app(guided)) as guided_url:
        wait_until_healthy(guided_url)
        yield guided_url


@DOORS
@EXECUTIONS
def test_the_first_rows_are_the_old_chunks_also_after_skipped_steps(guided_url, door, execution):
    with door(guided_url, execution=execution) as turn:
        chunk, session = turn(0, 51)
        assert session["inference_delay"] == 0
        for sequence, skipped, delay in ((1, 1, 2), (3, 2, 1), (4, 1, 3)):
            following, session = turn(sequence, 40 * sequence, inference_delay=delay)
            assert session["inference_delay"] == delay
            np.testing.assert_array_equal(following[:delay], chunk[skipped : skipped + delay])
            assert not np.allclose(following[delay], chunk[skipped + delay] if skipped + delay < 4 else 0)
            chunk = following


@DOORS
def test_a_blended_chunk_goes_over_to_the_new_one_in_a_ramp(guided_url, door):
    with door(guided_url, execution="receding") as turn:
        turn(0, 51)
        new, _ = turn(1, 102)
    with door(guided_url, execution="blended", execution_horizon=3) as turn:
        old = turn(0, 51)[0][1:]
        blended, _ = turn(1, 102, inference_delay=1)
    np.testing.assert_array_equal(blended[[0, 3]], [old[0], new[3]])
    np.testing.assert_allclose(blended[1:3], [(2 * old[1] + new[1]) / 3, (old[2] + 2 * new[2]) / 3])


@DOORS
def test_only_rtc_gives_the_policy_the_last_chunk(guided_url, door, guided):
    with door(guided_url, execution="rtc", execution_horizon=3) as turn:
        chunk, _ = turn(4, 51)
        assert guided.previous[-1] is None
        turn(6, 51, inference_delay=1)
        previous = guided.previous[-1]
    np.testing.assert_array_equal(previous.actions, chunk[2:])
    assert (previous.inference_delay, previous.execution_horizon) == (1, 2)
    with door(guided_url, execution="aligned") as turn:
        turn(0, 51)
        turn(1, 51, inference_delay=1)
        assert guided.previous[-1] is None


@DOORS
def test_a_delay_that_is_left_out_is_measured(guided_url, door):
    # At a million steps a second, whatever an answer takes is longer than the chunk.
    with door(guided_url, execution="aligned", control_hz=1e6) as turn:
        chunk, session = turn(0, 51)
        assert session["inference_delay"] == 0
        following, session = turn(1, 102)
    assert session["inference_delay"] == 3
    np.testing.assert_array_equal(following[:3], chunk[1:])


@EXECUTIONS
def test_a_new_instruction_continues_nothing_and_neither_does_a_chunk_that_is_used_up(guided_url, execution):
    with by_http(guided_url, execution=execution) as turn:
        turn(0, 51)
        _, session = turn(9, 51, inference_delay=2)
        assert session["inference_delay"] == 0
        chunk, session = turn(10, 51, inference_delay=2, instruction="stop")
        assert (session["step"], session["inference_delay"]) == (0, 0)
        assert chunk[0, 5] == 1


@EXECUTIONS
def test_a_session_is_replayed_by_its_delays_also_from_a_token_in_the_middle(guided_url, guided, execution):
    asked = [(0, 20, None), (1, 40, 1), (3, 60, 1), (4, 80, 2)]

    def delays(delay):
        return {} if delay is None else {"inference_delay": delay}

    with by_http(guided_url, execution=execution) as turn:
        first = [turn(sequence, level, **delays(delay))[0] for sequence, level, delay in asked]
    with by_http(guided_url, execution=execution) as turn:
        again = [turn(sequence, level, **delays(delay))[0] for sequence, level, delay in asked[:2]]
        _, session = turn(1, 40, inference_delay=1, return_token=True)
    httpx.delete(f"{guided_url}/sessions/{session['id']}").raise_for_status()
    token = {"session_token": session["token"]}
    for sequence, level, delay in asked[2:]:
        body = {
            "instruction": "go",
            "image": of_one_colour(level, 0, 0),
            "sequence": sequence,
            **delays(delay),
            **token,
        }
        response = httpx.post(f"{guided_url}/predict", json=body | delays(delay))
        again.append(np.array(response.json()["actions"]))
        token = {"session_id": session["id"]}
    np.testing.assert_array_equal(again, first)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"execution": "rtc"}, "execution: rtc is not possible with echo"),
        ({"execution": "receding", "inference_delay": 1}, "execution receding continues no chunk"),
        ({"execution": "aligned", "execution_horizon": 2}, "execution_horizon can only be given together with"),
        ({"execution": "blended", "execution_horizon": 9}, "expected 1 to 4"),
        ({"execution": "aligned", "inference_delay": -1}, "inference_delay"),
        ({"execution": "aligned", "control_hz": 0}, "control_hz"),
    ],
)
def test_what_cannot_be_continued_is_refused(client, body, words):
    body = {"instruction": "go", "image": of_one_colour(51, 0, 0), "session_id": "refused", **body}
    response = client.post("/predict", json=body)
    assert response.status_code == 422
    assert words in response.json()["error"]["message"]
