"""Which session makes room: an idle one, of the client that has most, the least recently used."""

import pytest

from vla_server_base.config import ServerConfig
from vla_server_base.engine.in_process import InProcessEngine
from vla_server_base.sessions.eviction import session_to_forget
from vla_server_base.sessions.progress import new_progress
from vla_server_base.sessions.session import Session
from vla_server_base.sessions.settings import SessionSettings
from vla_server_base.testing import EchoAdapter

SPEC = EchoAdapter().spec


def session(name: str, client: str, last_used: float, num_waiting: int = 0) -> Session:
    settings = SessionSettings()
    return Session(
        id=name,
        settings=settings,
        defaults=settings,
        progress=new_progress(SPEC, settings, 0),
        engine=InProcessEngine(EchoAdapter(), ServerConfig(), "echo"),
        clock=lambda: last_used,
        client=client,
        num_waiting=num_waiting,
    )


@pytest.fixture
def sessions() -> list[Session]:
    return [session("a1", "a", 1), session("b1", "b", 2), session("b2", "b", 3)]


def test_the_client_with_most_sessions_loses_its_oldest(sessions):
    assert session_to_forget(sessions, lambda _: 1).id == "b1"


def test_among_clients_with_as_many_the_oldest_goes(sessions):
    assert session_to_forget(sessions[:2], lambda _: 1).id == "a1"


def test_the_cost_decides_who_has_most(sessions):
    assert session_to_forget(sessions, lambda each: 10 if each.client == "a" else 1).id == "a1"


def test_a_session_in_use_stays(sessions):
    sessions[1].num_waiting = 1
    assert session_to_forget(sessions, lambda _: 1).id == "b2"
    for each in sessions:
        each.num_waiting = 1
    assert session_to_forget(sessions, lambda _: 1) is None
