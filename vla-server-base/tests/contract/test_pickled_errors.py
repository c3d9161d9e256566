"""Errors cross processes, and stay what they are."""

import pickle

import pytest

from vla_client.errors import PolicyError
from vla_server_base.errors import HeadTooLarge, Overloaded, RequestError, UnknownName
from vla_server_base.scenes.worker_death import WorkerDied


@pytest.mark.parametrize(
    "error",
    [
        RequestError("no", hint="yes"),
        UnknownName("scene", "kitchen", ["table", "shelf"]),
        Overloaded("full", hint="later", retry_after_s=7),
        HeadTooLarge(1000, 10),
        PolicyError("overloaded: full; later (request_id abc)"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_keeps_its_kind_its_words_and_its_code(error):
    received = pickle.loads(pickle.dumps(error))
    assert (type(received), str(received)) == (type(error), str(error))
    assert vars(received) == vars(error)


def test_a_lost_worker_keeps_the_cause():
    death = pickle.loads(pickle.dumps(WorkerDied("it took more than 5 MB of memory", "memory")))
    assert (str(death), death.cause) == ("it took more than 5 MB of memory", "memory")
