"""Broken connections and restarted servers: each step counts once, and a lost session is an error."""

import random
import socket
import threading
import time
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
from echo_server import echo_app
from tcp_proxy import proxied, socket_url
from websockets.sync.client import ClientConnection

from vla_client import Policy, SessionLost, Unreachable
from vla_server_base.server.uvicorn_server import serving

NUM_STEPS = 6
NUM_BYTES = {"up": NUM_STEPS * 900, "down": NUM_STEPS * 300}
"""No more than an episode takes, after the greeting."""


def seen(step: int) -> dict:
    """The observation of a step, different from all others."""
    return {"primary": np.full((16, 16, 3), 40 * step, np.uint8), "instruction": "go"}


def episode(policy: Policy) -> list[dict]:
    return [policy.infer(seen(step)) for step in range(NUM_STEPS)]


def outcome(answers: list[dict]) -> list:
    """What must be the same: each number of the actions, and the steps."""
    return [(answer["actions"].tolist(), answer["session"]["step"]) for answer in answers]


def resuming(proxy, **settings) -> Policy:
    return Policy(proxy.url, seed=3, resume_after_restart=True, **settings)


@pytest.fixture(params=["receding", "chunk", "ensemble"])
def execution(request):
    return {"execution": request.param} | ({"execution_horizon": 3} if request.param == "chunk" else {})


@pytest.fixture
def expected(url, execution):
    """What an episode is where nothing breaks."""
    with Policy(url, seed=3, **execution) as policy:
        return outcome(episode(policy))


@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("attempt", range(6))
def test_a_connection_that_breaks_anywhere_changes_nothing(proxy, execution, expected, way, attempt):
    with Policy(proxy.url, seed=3, **execution) as policy:
        proxy.cut_after[way] = random.Random(attempt).randrange(NUM_BYTES[way])
        assert outcome(episode(policy)) == expected
        assert proxy.num_connections > 1


@pytest.mark.parametrize("first", [0, 3])
def test_a_step_whose_answer_is_lost_counts_once(proxy, execution, expected, first):
    with Policy(proxy.url, seed=3, **execution) as policy:
        answers = [policy.infer(seen(step)) for step in range(first)]
        proxy.cut_after["down"] = 10
        answers += [policy.infer(seen(step)) for step in range(first, NUM_STEPS)]
    assert outcome(answers) == expected


def test_connections_that_break_between_steps_are_replaced(proxy):
    with Policy(proxy.url) as policy:
        for step in range(4):
            proxy.cut()
            assert policy.infer(seen(step))["session"]["step"] == step
        assert proxy.num_connections == 5


def test_a_silent_connection_is_replaced(proxy):
    with Policy(proxy.url, answer_timeout_s=0.5) as policy:
        policy.infer(seen(0))
        proxy.stall()
        assert policy.infer(seen(1))["session"]["step"] == 1


def test_a_first_step_is_never_sent_twice_to_one_session(proxy):
    with Policy(proxy.url, session_id="first") as policy:
        proxy.cut_after["down"] = 10
        assert policy.infer(seen(0))["session"]["id"] == "first+1"
        assert policy.infer(seen(1))["session"]["step"] == 1
        policy.reset()
        assert policy.infer(seen(0))["session"]["id"] == "first+1", "a reset that is answered stays"


def test_an_interrupted_step_leaves_no_answer_for_the_next(url, monkeypatch):
    with Policy(url) as policy:
        policy.infer(seen(0))
        with monkeypatch.context() as interrupted:
            interrupted.setattr(ClientConnection, "recv", interrupt)
            with pytest.raises(KeyboardInterrupt):
                policy.infer(seen(1))
        assert policy.infer(seen(2))["session"]["sequence"] == 2


def interrupt(*args, **kwargs) -> None:
    raise KeyboardInterrupt


@contextmanager
def two_servers(tmp_path, *, other_key: bool = False):
    """A way to a server, and another server's address, as which it may come back."""
    second_dir = tmp_path / "other" if other_key else tmp_path
    with ExitStack() as both:
        one, another = (
            socket_url(both.enter_context(serving(echo_app(cache_dir=cache_dir))))
            for cache_dir in (tmp_path, second_dir)
        )
        yield both.enter_context(proxied(one)), another


def test_an_episode_goes_on_at_a_restarted_server(tmp_path, execution, expected):
    with two_servers(tmp_path) as (proxy, another), resuming(proxy, **execution) as policy:
        answers = [policy.infer(seen(step)) for step in range(3)]
        proxy.lead_to(another)
        answers += [policy.infer(seen(step)) for step in range(3, NUM_STEPS)]
    assert outcome(answers) == expected
    assert all("token" not in answer["session"] for answer in answers)


def test_an_episode_goes_on_where_the_restart_took_an_answer_with_it(tmp_path, execution, expected):
    with two_servers(tmp_path) as (proxy, another), resuming(proxy, **execution) as policy:
        answers = [policy.infer(seen(step)) for step in range(2)]
        proxy.target_after_cut = another
        proxy.cut_after["down"] = 10
        answers += [policy.infer(seen(step)) for step in range(2, NUM_STEPS)]
    assert outcome(answers) == expected


def test_an_episode_that_has_not_begun_is_not_lost_with_the_server(tmp_path, execution, expected):
    with two_servers(tmp_path) as (proxy, another), Policy(proxy.url, seed=3, **execution) as policy:
        policy.infer(seen(5))
        policy.reset()
        proxy.lead_to(another)
        assert outcome(episode(policy)) == expected


@pytest.mark.parametrize("instruction", ["go", "stop"])
def test_a_session_that_is_lost_with_the_server_stays_lost_until_a_reset(tmp_path, instruction):
    with two_servers(tmp_path) as (proxy, another), Policy(proxy.url, execution="ensemble") as policy:
        policy.infer(seen(0))
        proxy.lead_to(another)
        for _ in range(2):
            with pytest.raises(SessionLost, match=r"step [12] was answered"):
                policy.infer({**seen(1), "instruction": instruction})
        policy.reset()
        assert policy.infer(seen(0))["session"]["step"] == 0


def test_a_session_whose_token_the_server_does_not_take_is_lost(tmp_path):
    with two_servers(tmp_path, other_key=True) as (proxy, another), resuming(proxy) as policy:
        policy.infer(seen(0))
        proxy.lead_to(another)
        with pytest.raises(SessionLost):
            policy.infer(seen(1))


def test_a_session_that_was_idle_too_long_is_lost(tmp_path):
    with serving(echo_app(session_idle_s=0.2)) as base_url, Policy(socket_url(base_url)) as policy:
        policy.infer(seen(0))
        time.sleep(0.3)
        with pytest.raises(SessionLost):
            policy.infer(seen(1))


def test_after_a_long_pause_the_token_goes_first(tmp_path, monkeypatch):
    monkeypatch.setattr("vla_client.policy._LONG_PAUSE_S", 0.1)
    app = echo_app(session_idle_s=0.2, cache_dir=tmp_path)
    with serving(app) as base_url, Policy(socket_url(base_url), resume_after_restart=True) as policy:
        policy.infer(seen(0))
        time.sleep(0.3)
        assert policy.infer(seen(1))["session"]["step"] == 1


def test_a_server_that_is_gone_is_tried_for_so_long_and_no_longer(proxy, url):
    with Policy(proxy.url, reconnect_s=1) as policy:
        proxy.target = "ws://127.0.0.1:9"
        proxy.cut()
        started = time.monotonic()
        with pytest.raises(
            Unreachable, match=r"no answer from ws://.* in \d+ attempts, repeated for 1 s; the last one failed"
        ):
            policy.infer(seen(0))
        assert 0.3 < time.monotonic() - started < 5
        proxy.target = url
        assert policy.infer(seen(0))["session"]["step"] == 0
    assert issubclass(Unreachable, ConnectionError)


def test_a_server_that_accepts_and_says_nothing_is_tried_no_longer():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(Unreachable, match=r"[Tt]imed out"):
            Policy(f"ws://127.0.0.1:{silent.getsockname()[1]}", connect_timeout_s=0.2, reconnect_s=0.5)
        assert time.monotonic() - started < 10


def test_a_server_that_is_still_starting_is_waited_for():
    with proxied("ws://127.0.0.1:9") as proxy:
        opened: list[Policy] = []
        opening = threading.Thread(target=lambda: opened.append(Policy(proxy.url)))
        opening.start()
        with serving(echo_app()) as base_url:
            proxy.target = socket_url(base_url)
            opening.join()
            with opened[0] as policy:
                assert policy.infer(seen(0))["session"]["step"] == 0
