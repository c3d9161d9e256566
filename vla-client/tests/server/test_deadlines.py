"""The client's deadline: no action for an older picture, no longer wait, and a session that goes on."""

import math
import random
import threading
import time
from contextlib import suppress

import numpy as np
import pytest
from echo_server import echo_app
from relay import relayed
from tcp_proxy import proxied, socket_url

from vla_client import DeadlineExceeded, ObservationError, Policy, PolicyError
from vla_client.errors import error_from_text
from vla_server_base.server.uvicorn_server import serving

SOON_MS = 50.0
NUM_STEPS = 6


def seen(step: int) -> dict:
    """What is seen at a step, other than at any other."""
    return {"primary": np.full((16, 16, 3), 40 * step, np.uint8), "instruction": "go"}


def is_answer_to(answer: dict, step: int) -> bool:
    """Whether the picture of that step was answered, which the echo policy's first number tells, and as that step."""
    return bool(np.isclose(answer["actions"][0, 0], 40 * step / 255)) and answer["session"]["sequence"] == step


@pytest.fixture
def policy(proxy):
    with Policy(proxy.url, seed=3) as policy:
        yield policy


def late_turn(policy: Policy, step: int, **rest) -> DeadlineExceeded:
    with pytest.raises(DeadlineExceeded) as told:
        policy.infer({**seen(step), **rest}, deadline_ms=SOON_MS)
    return told.value


def test_the_deadline_is_named_once_for_all_turns(proxy):
    with Policy(proxy.url, deadline_ms=SOON_MS) as policy:
        proxy.is_passing["down"].clear()
        for _ in range(2):
            with pytest.raises(DeadlineExceeded, match=r"the image is \d+ ms old, at most 50 ms are allowed"):
                policy.act(seen(0)["primary"], "go")


def test_late_is_an_error_of_the_policys_with_a_way_on(policy, proxy):
    proxy.is_passing["down"].clear()
    late = late_turn(policy, 0)
    assert isinstance(late, PolicyError)
    assert (late.code, late.request_id) == ("deadline_exceeded", None)
    assert late.message.endswith("the server has not answered yet")
    assert late.hint == "hold still and act on a new image; docs/performance.md says which rate to ask for"


def test_a_late_answer_is_not_the_next_turns(policy, proxy):
    policy.infer(seen(0))
    proxy.is_passing["down"].clear()
    late_turn(policy, 1)
    proxy.is_passing["down"].set()
    answers = [policy.infer(seen(step)) for step in (2, 3)]
    assert [is_answer_to(answer, step) for step, answer in zip((2, 3), answers, strict=True)] == [True, True]
    assert [answer["session"]["step"] for answer in answers] == [2, 3]
    assert proxy.num_connections == 1


@pytest.mark.parametrize(
    "execution", [{}, {"execution": "chunk", "execution_horizon": 3}, {"execution": "ensemble"}], ids=str
)
def test_a_late_turn_is_a_step_like_any_other(url, proxy, execution):
    with Policy(url, seed=3, **execution) as policy:
        expected = [policy.infer(seen(step))["actions"].tolist() for step in range(NUM_STEPS)]
    with Policy(proxy.url, seed=3, **execution) as policy:
        policy.infer(seen(0))
        proxy.is_passing["down"].clear()
        late_turn(policy, 1)
        proxy.is_passing["down"].set()
        found = [policy.infer(seen(step))["actions"].tolist() for step in range(2, NUM_STEPS)]
    assert found == expected[2:]


def test_a_late_first_turn_leaves_the_next_to_begin(policy, proxy):
    proxy.is_passing["down"].clear()
    late_turn(policy, 0)
    proxy.is_passing["down"].set()
    answer = policy.infer(seen(1))
    assert is_answer_to(answer, 1)
    assert (answer["session"]["step"], answer["session"]["id"]) == (0, policy.session_id)


def test_after_silence_the_next_turn_goes_on_in_the_session_on_another_connection(policy, proxy):
    policy.infer(seen(0))
    proxy.stall()
    late_turn(policy, 1)
    answer = policy.infer(seen(2), deadline_ms=20_000)
    assert is_answer_to(answer, 2)
    assert answer["session"]["step"] == 2
    assert proxy.num_connections == 2


def test_a_turn_that_breaks_off_is_asked_again_as_long_as_there_is_time(policy, proxy):
    policy.infer(seen(0))
    proxy.cut()
    assert is_answer_to(policy.infer(seen(1), deadline_ms=20_000), 1)


def test_no_turn_waits_for_a_server_that_is_gone(url):
    with proxied(url) as proxy, Policy(proxy.url, deadline_ms=SOON_MS, reconnect_s=1e3) as policy:
        proxy.target = "ws://127.0.0.1:9"
        proxy.cut()
        for _ in range(3):
            with pytest.raises(DeadlineExceeded, match=r"still connecting to ws://"):
                policy.infer(seen(0))
        proxy.target = url
        assert is_answer_to(policy.infer(seen(3), deadline_ms=20_000), 3)


def test_a_connection_that_takes_longer_than_a_turn_is_there_for_a_later_one(policy, proxy):
    policy.infer(seen(0))
    proxy.is_passing["down"].clear()
    proxy.cut()
    late_turn(policy, 1)
    late_turn(policy, 2)
    proxy.is_passing["down"].set()
    assert is_answer_to(policy.infer(seen(3)), 3)
    assert proxy.num_connections == 2


def test_no_turn_waits_for_a_network_that_takes_nothing():
    large = {**seen(0), "primary": np.zeros((3000, 3000, 3), np.uint8)}
    app = echo_app(max_body_mb=64, max_image_pixels=10_000_000)
    with serving(app) as base_url, proxied(socket_url(base_url)) as proxy, Policy(proxy.url) as policy:
        proxy.is_passing["up"].clear()
        with pytest.raises(DeadlineExceeded, match="the observation is still being sent"):
            policy.infer(large, deadline_ms=500)
        proxy.is_passing["up"].set()
        assert is_answer_to(policy.infer(seen(1)), 1)


def test_a_picture_that_is_too_old_is_not_asked_about(policy):
    late = late_turn(policy, 0, obs_time=time.monotonic() - 1)
    assert late.message.endswith("the observation was not sent")
    assert policy.infer(seen(1))["session"]["step"] == 0


def test_the_picture_of_an_act_may_have_been_taken_earlier(url):
    with Policy(url, deadline_ms=20_000) as policy:
        picture = seen(0)["primary"]
        assert policy.act(picture, "go", obs_time=time.monotonic() - 1).shape == (7,)
        with pytest.raises(DeadlineExceeded):
            policy.act(picture, "go", obs_time=time.monotonic() - 30)


def test_a_time_of_another_clock_is_refused(policy):
    with pytest.raises(ObservationError, match=r"obs_time: expected a time of time.monotonic\(\)") as told:
        policy.infer({**seen(0), "obs_time": time.time()}, deadline_ms=1e3)
    assert told.value.hint == "convert a time stamp of time.time() with time.monotonic() - (time.time() - stamp)"
    assert policy.infer({**seen(0), "obs_time": time.time()})["session"]["obs_time"] > time.monotonic()


def test_the_last_turn_once_more_is_as_old_as_it_was(policy, proxy):
    policy.infer(seen(0))
    proxy.is_passing["down"].clear()
    late_turn(policy, 1)
    proxy.is_passing["down"].set()
    with pytest.raises(DeadlineExceeded, match="the observation was not sent"):
        policy.infer(seen(1), sequence=policy.sequence, deadline_ms=SOON_MS)
    assert is_answer_to(policy.infer(seen(1), sequence=policy.sequence), 1)


def test_the_server_is_told_how_much_time_is_left(url):
    with relayed(url) as (relay, relay_url), Policy(relay_url, deadline_ms=20_000) as policy:
        policy.infer({**seen(0), "obs_time": time.monotonic() - 10})
        policy.infer(seen(1), deadline_ms=math.inf)
    first, second = relay.asked
    assert 0 < first["deadline_ms"] <= 10_000
    assert "deadline_ms" not in second


def test_an_answer_to_another_turn_is_no_answer(url):
    with relayed(url) as (relay, relay_url), Policy(relay_url) as policy:
        relay.repeats = {1}
        answers = [policy.infer(seen(step)) for step in range(4)]
    assert [is_answer_to(answer, step) for step, answer in enumerate(answers)] == [True] * 4


def test_the_servers_own_word_that_it_is_late_is_the_same_error():
    late = error_from_text("deadline_exceeded: no answer within the deadline; send the next request (request_id 1f)")
    assert isinstance(late, DeadlineExceeded)
    assert (late.code, late.request_id) == ("deadline_exceeded", "1f")


@pytest.mark.parametrize("attempt", range(4))
def test_whatever_happens_on_the_way_no_answer_is_another_pictures(proxy, attempt):
    dice = random.Random(attempt)
    over = threading.Event()
    troubles = [proxy.cut, proxy.stall, proxy.is_passing["down"].clear, proxy.is_passing["up"].clear]

    def trouble() -> None:
        while not over.wait(dice.uniform(0, 0.1)):
            dice.choice(troubles)()
            over.wait(dice.uniform(0, 0.1))
            for passing in proxy.is_passing.values():
                passing.set()

    with Policy(proxy.url, seed=3) as policy:
        policy.infer(seen(0))
        troubling = threading.Thread(target=trouble)
        troubling.start()
        answers = {}
        for step in range(1, 60):
            with suppress(DeadlineExceeded):
                answers[step] = policy.infer(seen(step % NUM_STEPS), deadline_ms=SOON_MS)
        over.set()
        troubling.join()
    assert [answer["session"]["sequence"] for answer in answers.values()] == list(answers)
    colours = [40 * (step % NUM_STEPS) / 255 for step in answers]
    np.testing.assert_allclose([answer["actions"][0, 0] for answer in answers.values()], colours)


@pytest.mark.parametrize("deadline_ms", [0, -1.0, math.nan])
def test_a_deadline_that_is_none_is_refused(url, policy, deadline_ms):
    with pytest.raises(ValueError, match=r"deadline_ms: expected milliseconds above 0"):
        Policy(url, deadline_ms=deadline_ms)
    with pytest.raises(ValueError, match="deadline_ms"):
        policy.infer(seen(0), deadline_ms=deadline_ms)
