"""How many requests a second a client may send, on every protocol; what it is told, and that it stays connected."""

import httpx
import numpy as np
import pytest
from echo_server import echo_app, of_one_colour, wait_until_loaded

from vla_client import Policy
from vla_client.errors import PolicyError
from vla_server_base.errors import RateLimited
from vla_server_base.fairness.rates import RateLimits
from vla_server_base.request_context import current_client, current_rate
from vla_server_base.server.uvicorn_server import serving

BODY = {"instruction": "go", "image": of_one_colour(1, 2, 3)}
IMAGE = {"primary": np.zeros((8, 8, 3), np.uint8)}


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def limits(clock: Clock, **arguments) -> RateLimits:
    return RateLimits(clock=clock, jitter=lambda: 0.0, **arguments)


def num_passed(rates: RateLimits, client: str, rate: float, num_requests: int) -> int:
    num = 0
    for _ in range(num_requests):
        try:
            rates.check(client, rate)
        except RateLimited:
            continue
        num += 1
    return num


def test_a_client_may_send_a_seconds_requests_at_once_and_then_at_its_rate():
    rates = limits(clock := Clock())
    assert num_passed(rates, "a", 5.0, 20) == 5
    clock.now = 0.4
    assert num_passed(rates, "a", 5.0, 20) == 2
    clock.now = 100.0
    assert num_passed(rates, "a", 5.0, 20) == 5


def test_each_client_has_its_own_rate_and_zero_is_no_limit():
    rates = limits(Clock())
    assert num_passed(rates, "a", 2.0, 9) == 2
    assert num_passed(rates, "b", 3.0, 9) == 3
    assert num_passed(rates, "c", 0.0, 9) == 9


@pytest.mark.parametrize(("jitter", "seconds"), [(0.0, 4), (0.5, 5)])
def test_a_refused_client_is_told_when_it_may_send_again_in_whole_seconds(jitter, seconds):
    rates = RateLimits(clock=Clock(), jitter=lambda: jitter)
    rates.check("a", 0.25)
    with pytest.raises(RateLimited, match="a may send 0\\.25 requests") as refused:
        rates.check("a", 0.25)
    assert refused.value.retry_after_s == seconds
    assert refused.value.hint.startswith(f"send again in {seconds} s, ")


def test_a_keys_rate_takes_the_place_of_the_servers():
    rates = limits(Clock(), default_rate=1.0)
    current_client.set("key:arm")
    current_rate.set(2.0)
    rates.check_current()
    rates.check_current()
    with pytest.raises(RateLimited):
        rates.check_current()


@pytest.fixture(scope="module")
def url():
    with serving(echo_app(max_rate=0.001)) as address:
        wait_until_loaded(address)
        yield address


def test_http_answers_429_with_retry_after_and_still_answers_what_costs_nothing(url):
    with httpx.Client(base_url=url) as client:
        replies = [client.post("/predict", json=BODY) for _ in range(2)]
        assert [replies[-1].status_code, replies[-1].json()["error"]["code"]] == [429, "rate_limited"]
        assert int(replies[-1].headers["retry-after"]) > 1
        assert client.get("/info").status_code == 200


def refusal_code(policy: Policy) -> str | None:
    try:
        policy.act(IMAGE, "go")
    except PolicyError as error:
        return error.code
    return None


def test_a_websocket_gets_the_error_and_stays_open(url):
    with Policy(url.replace("http", "ws")) as policy:
        codes = [refusal_code(policy) for _ in range(4)]
    assert codes[-2:] == ["rate_limited", "rate_limited"]


def test_the_class_of_a_request_is_in_its_header_and_an_unknown_one_is_refused():
    with serving(echo_app()) as url, httpx.Client(base_url=url) as client:
        wait_until_loaded(url)
        replies = [client.post("/predict", json=BODY, headers={"X-Priority": it}) for it in ("batch", "urgent")]
    assert [reply.status_code for reply in replies] == [200, 422]
    assert "expected robot, human or batch" in replies[1].json()["error"]["message"]
