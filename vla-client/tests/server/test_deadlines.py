"""The client's deadline: no action for an older image, no longer wait, and the session continues."""

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
    """The observation of a step, different from all others."""
    return {"primary": np.full((16, 16, 3), 40 * step, np.uint8), "instruction": "go"}


def is_answer_to(answer: dict, step: int) -> bool:
    """Whether the answer has the step's number and, as the echo policy's first number shows, is to its image."""
    return bool(np.isclose(answer["actions"][0, 0], 40 * step / 255)) and answer["session"]["sequence"] == step


@pytest.fixture
def policy(proxy):
    with Policy(proxy.url, seed=3) as policy:
        yield policy


def late_step(policy: Policy, step: int, **rest) -> DeadlineExceeded:
    with pytest.raises(DeadlineExceeded) as raised:
        policy.infer({**seen(step), **rest}, deadline_ms=SOON_MS)
    return raised.value


def test_the_policys_deadline_holds_for_all_steps(proxy):
    with Policy(proxy.url, deadline_ms=SOON_MS) as policy:
        proxy.is_passing["down"].clear()
        for _ in range(2):
            with pytest.raises(DeadlineExceeded, match=r"the image is \d+ ms old, at most 50 ms are allowed"):
                policy.act(seen(0)["primary"], "go")


def test_deadline_exceeded_is_a_policy_error_with_a_hint(policy, proxy):
    proxy.is_passing["down"].clear()
    late = late_step(policy, 0)
    assert isinstance(late, PolicyError)
    assert (late.code, late.request_id) == ("deadline_exceeded", None)
    assert late.message.endswith("the server has not answered yet")
    assert late.hint == "hold still and act on a new image; docs/performance.md says which rate to ask for"


def test_a_late_answer_is_not_returned_to_the_next_step(policy, proxy):
    policy.infer(seen(0))
    proxy.is_passing["down"].clear()
    late_step(policy, 1)
    proxy.is_passing["down"].set()
    answers = [policy.infer(seen(step)) for step in (2, 3)]
    assert [is_answer_to(answer, step) for step, answer in zip((2, 3), answers, strict=True)] == [True, True]
    assert [answer["session"]["step"] for answer in answers] == [2, 3]
    assert proxy.num_connections == 1


@pytest.mark.parametrize(
    "execution", [{}, {"execution": "chunk", "execution_horizon": 3}, {"execution": "ensemble"}], ids=str
)
def test_a_late_step_counts_like_any_other(url, proxy, execution):
    with Policy(url, seed=3, **execution) as policy:
        expected = [policy.infer(seen(step))["actions"].tolist() for step in range(NUM_STEPS)]
    with Policy(proxy.url, seed=3, **execution) as policy:
        policy.infer(seen(0))
        proxy.is_passing["down"].clear()
        late_step(policy, 1)
        proxy.is_passing["down"].set()
        actions = [policy.infer(seen(step))["actions"].tolist() for step in range(2, NUM_STEPS)]
    assert actions == expected[2:]


def test_after_a_late_first_step_the_next_one_starts_the_episode(policy, proxy):
    proxy.is_passing["down"].clear()
    late_step(policy, 0)
    proxy.is_passing["down"].set()
    answer = policy.infer(seen(1))
    assert is_answer_to(answer, 1)
    assert (answer["session"]["step"], answer["session"]["id"]) == (0, policy.session_id)


def test_after_silence_the_next_step_continues_the_session_on_another_connection(policy, proxy):
    policy.infer(seen(0))
    proxy.stall()
    late_step(policy, 1)
    answer = policy.infer(seen(2), deadline_ms=20_000)
    assert is_answer_to(answer, 2)
    assert answer["session"]["step"] == 2
    assert proxy.num_connections == 2


def test_a_step_that_breaks_off_is_repeated_as_long_as_there_is_time(policy, proxy):
    policy.infer(seen(0))
    proxy.cut()
    assert is_answer_to(policy.infer(seen(1), deadline_ms=20_000), 1)


def test_no_step_waits_for_a_server_that_is_gone(url):
    with proxied(url) as proxy, Policy(proxy.url, deadline_ms=SOON_MS, reconnect_s=1e3) as policy:
        proxy.target = "ws://127.0.0.1:9"
        proxy.cut()
        for _ in range(3):
            with pytest.raises(DeadlineExceeded, match=r"still connecting to ws://"):
                policy.infer(seen(0))
        proxy.target = url
        assert is_answer_to(policy.infer(seen(3), deadline_ms=20_000), 3)


def test_a_connection_that_takes_longer_than_a_step_is_used_by_a_later_one(policy, proxy):
    policy.infer(seen(0))
    proxy.is_passing["down"].clear()
    proxy.cut()
    late_step(policy, 1)
    late_step(policy, 2)
    proxy.is_passing["down"].set()
    assert is_answer_to(policy.infer(seen(3)), 3)
    assert proxy.num_connections == 2


def test_no_step_waits_for_a_network_that_passes_nothing():
    large = {**seen(0), "primary": np.zeros((3000, 3000, 3), np.uint8)}
    app = echo_app(max_body_mb=64, max_image_pixels=10_000_000)
    with serving(app) as base_url, proxied(socket_url(base_url)) as proxy, Policy(proxy.url) as policy:
        proxy.is_passing["up"].clear()
        with pytest.raises(DeadlineExceeded, match="the observation is still being sent"):
            policy.infer(large, deadline_ms=500)
        proxy.is_passing["up"].set()
        assert is_answer_to(policy.infer(seen(1)), 1)


def test_an_image_that_is_too_old_is_not_sent(policy):
    late = late_step(policy, 0, obs_time=time.monotonic() - 1)
    assert late.message.endswith("the observation was not sent")
    assert policy.infer(seen(1))["session"]["step"] == 0


def test_the_image_of_an_act_may_have_been_taken_earlier(url):
    with Policy(url, deadline_ms=20_000) as policy:
        image = seen(0)["primary"]
        assert policy.act(image, "go", obs_time=time.monotonic() - 1).shape == (7,)
        with pytest.raises(DeadlineExceeded):
            policy.act(image, "go", obs_time=time.monotonic() - 30)


def test_a_time_of_another_clock_is_refused(policy):
    with pytest.raises(ObservationError, match=r"obs_time: expected a time of time.monotonic\(\)") as raised:
        policy.infer({**seen(0), "obs_time": time.time()}, deadline_ms=1e3)
    assert raised.value.hint == "convert a time stamp of time.time() with time.monotonic() - (time.time() - stamp)"
    assert policy.infer({**seen(0), "obs_time": time.time()})["session"]["obs_time"] > time.monotonic()


def test_a_repeated_step_keeps_the_age_of_its_image(policy, proxy):
    policy.infer(seen(0))
    proxy.is_passing["down"].clear()
    late_step(policy, 1)
    proxy.is_passing["down"].set()
    with pytest.raises(DeadlineExceeded, match="the observation was not sent"):
        policy.infer(seen(1), sequence=policy.sequence, deadline_ms=SOON_MS)
    assert is_answer_to(policy.infer(seen(1), sequence=policy.sequence), 1)


def test_the_message_says_how_much_time_is_left(url):
    with relayed(url) as (relay, relay_url), Policy(relay_url, deadline_ms=20_000) as policy:
        policy.infer({**seen(0), "obs_time": time.monotonic() - 10})
        policy.infer(seen(1), deadline_ms=math.inf)
    first, second = relay.asked
    assert 0 < first["deadline_ms"] <= 10_000
    assert "deadline_ms" not in second


def test_an_answer_to_another_step_is_dropped(url):
    with relayed(url) as (relay, relay_url), Policy(relay_url) as policy:
        relay.repeats = {1}
        answers = [policy.infer(seen(step)) for step in range(4)]
    assert [is_answer_to(answer, step) for step, answer in enumerate(answers)] == [True] * 4


def test_the_servers_deadline_exceeded_is_the_same_error():
    late = error_from_text("deadline_exceeded: no answer within the deadline; send the next request (request_id 1f)")
    assert isinstance(late, DeadlineExceeded)
    assert (late.code, late.request_id) == ("deadline_exceeded", "1f")


@pytest.mark.parametrize("attempt", range(4))
def test_no_failure_of_the_network_returns_the_answer_to_another_image(proxy, attempt):
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
def test_a_deadline_is_above_zero(url, policy, deadline_ms):
    with pytest.raises(ValueError, match=r"deadline_ms: expected milliseconds above 0"):
        Policy(url, deadline_ms=deadline_ms)
    with pytest.raises(ValueError, match="deadline_ms"):
        policy.infer(seen(0), deadline_ms=deadline_ms)
