"""Retries: pauses that double, a limited time, and no retry where it would fail in the same way."""

import json
import logging
import time

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus, InvalidURI
from websockets.http11 import Response

from vla_client.errors import Unauthorized, Unreachable
from vla_client.retries import Retries

URL = "ws://127.0.0.1:9"


@pytest.fixture
def pauses(monkeypatch):
    """The pauses that are made, on a clock that only they move."""
    made, now = [], [100.0]

    def sleep(pause_s: float) -> None:
        made.append(pause_s)
        now[0] += pause_s

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return made


def refusal(status: int, body: bytes = b"") -> InvalidStatus:
    return InvalidStatus(Response(status, "", Headers(), body))


def give_up(retries: Retries, error: Exception) -> Unreachable:
    """Fail with the same error until no attempt is left, and return what is raised then."""
    with pytest.raises(Unreachable) as raised:
        fail_again_and_again(retries, error)
    return raised.value


def fail_again_and_again(retries: Retries, error: Exception) -> None:
    while True:
        retries.pause_after(error)


def test_the_first_retry_comes_at_once(pauses):
    Retries(URL, 60).pause_after(OSError())
    assert pauses == [0.0]


def test_pauses_double_up_to_a_limit_and_are_not_the_same_for_all_robots(pauses):
    retries = Retries(URL, 600)
    for _ in range(12):
        retries.pause_after(OSError())
    longest = [0.1 * 2**n for n in range(6)] + [5.0] * 5
    assert all(limit / 2 <= pause <= limit for limit, pause in zip(longest, pauses[1:]))
    assert pauses[-1] != pauses[-2]


def test_no_attempt_starts_after_the_time_limit(pauses):
    give_up(Retries(URL, 7), OSError())
    assert 3 < sum(pauses) < 7


def test_the_time_counts_from_the_first_failure(pauses):
    retries = Retries(URL, 7)
    assert retries.left_s == 7
    time.sleep(100)
    assert retries.left_s == 7
    retries.pause_after(OSError())
    time.sleep(5)
    assert retries.left_s == pytest.approx(2)
    time.sleep(5)
    assert retries.left_s == 0


def test_the_error_says_what_was_tried_and_why_it_failed(pauses):
    error = give_up(Retries(URL, 0.01), OSError("no route"))
    assert (
        str(error)
        == f"no answer from {URL} in 2 attempts, repeated for 0.01 s; the last one failed with OSError: no route"
    )
    assert "check that the server runs" in error.hint
    assert isinstance(error.__cause__, OSError)


def test_an_error_without_a_message_is_named_by_its_class(pauses):
    assert str(give_up(Retries(URL, 0), TimeoutError())).endswith("failed with TimeoutError")


@pytest.mark.parametrize("error", [refusal(404), refusal(400), refusal(403), InvalidURI(URL, "no")], ids=repr)
def test_an_address_without_a_policy_is_not_retried(pauses, error):
    raised = give_up(Retries(URL, 60), error)
    assert f"{URL} is not the address of a policy server" in str(raised)
    assert pauses == []


@pytest.mark.parametrize(("status", "code"), [(401, "unauthorized"), (429, "too_many_wrong_keys")])
def test_a_refused_key_is_not_tried_again(pauses, status, code):
    body = json.dumps({"error": {"code": code, "message": "it was revoked"}}).encode()
    with pytest.raises(Unauthorized, match=r"refuses the API key: .*it was revoked") as refused:
        fail_again_and_again(Retries(URL, 60), refusal(status, body))
    assert "VLA_API_KEY" in refused.value.hint
    assert pauses == []


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_server_that_is_not_ready_is_retried(pauses, status):
    give_up(Retries(URL, 1), refusal(status))
    assert len(pauses) > 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (json.dumps({"error": {"code": "overloaded", "message": "2 are open"}}).encode(), "overloaded: 2 are open"),
        (b"<html>Bad Gateway</html>", "<html>Bad Gateway</html>"),
        (b'{"error": "plain"}', '{"error": "plain"}'),
        (b"[]", "[]"),
        (b"\xff" * 300, "\ufffd" * 200),
        (b"", "without a reason"),
    ],
)
def test_a_refusal_is_told_in_the_servers_or_the_proxys_words(pauses, body, reason):
    assert str(give_up(Retries(URL, 0), refusal(503, body))).endswith(f"HTTP 503, {reason}")


def test_the_first_failure_is_logged_and_no_other(pauses, caplog):
    with caplog.at_level(logging.WARNING, "vla_client"):
        give_up(Retries(URL, 5), OSError("no route"))
    assert [record.getMessage() for record in caplog.records] == [
        f"{URL} did not answer (OSError: no route), trying again for 5 s"
    ]
