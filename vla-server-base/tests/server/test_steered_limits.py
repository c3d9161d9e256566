"""What steered episodes may cost: slow, vanished and greedy clients, memory, time, and the end of the server."""

import asyncio
import time

import httpx
import pytest
from echo_server import echo_app, wait_until, wait_until_healthy
from episode_client import EPISODE, Page, names
from raw_socket import connected, head

from vla_server_base.server import steered_episodes
from vla_server_base.server.kept_events import KeptEvents, WrittenEvent
from vla_server_base.server.steered_episodes import ABANDONED_S, LEFT_S
from vla_server_base.server.uvicorn_server import serving

ENDLESS = {"pace": "real_time", "max_steps": 1000}


@pytest.fixture(scope="module")
def app():
    return echo_app(max_episodes=2, episodes_mb=1, scene_workers=1)


@pytest.fixture(scope="module")
def small_url(app):
    """A server with two places for episodes and 1 MB for their events."""
    with serving(app) as base_url:
        wait_until_healthy(base_url)
        yield base_url


@pytest.fixture
def episodes(app, small_url):
    """The server's episodes, whose clock the test may set; it begins without any."""
    episodes = app.state.service.steered
    yield episodes
    episodes.clock = time.monotonic
    with httpx.Client(base_url=small_url, timeout=60) as client:
        for episode in client.get("/episodes").json()["episodes"]:
            client.delete(f"/episodes/{episode['episode_id']}")


def later(episodes, seconds: float) -> None:
    now = time.monotonic() + seconds
    episodes.clock = lambda: now


@pytest.fixture
def client_at(small_url):
    """Makes a page at an address of this machine."""
    clients = []

    def at(address: str) -> Page:
        transport = httpx.HTTPTransport(local_address=address)
        clients.append(httpx.Client(base_url=small_url, timeout=60, transport=transport))
        return Page(clients[-1])

    yield at
    for client in clients:
        client.close()


@pytest.fixture
def small(client_at, episodes):
    return client_at("127.0.0.1")


def refused(page: Page) -> None:
    with pytest.raises(AssertionError, match="overloaded"):
        page.begin(**ENDLESS)


def reason(page: Page, episode: str) -> str | None:
    return page.status(episode)["reason"]


def test_episodes_take_the_places_of_execute_too(small):
    kept = [small.begin(**ENDLESS) for _ in range(2)]
    refused(small)
    small.steer(kept[0], status="stopped")
    small.end(kept[0])
    assert small.begin(**ENDLESS)


def test_an_episode_that_nobody_reads_makes_room_first_one_of_the_client_with_most(episodes, client_at):
    greedy, other = client_at("127.0.0.2"), client_at("127.0.0.3")
    first, second = greedy.begin(**ENDLESS), greedy.begin(**ENDLESS)
    greedy.steer(first, pace="real_time")
    refused(other)
    later(episodes, LEFT_S + 1)
    third = other.begin(**ENDLESS)
    assert [reason(other, each) for each in (first, second, third)] == [None, "stopped", None]


def test_an_episode_that_is_read_makes_no_room(episodes, small, client_at):
    episode = small.begin(paused=True)
    with small.client.stream("GET", f"/episodes/{episode}/events"):
        wait_until(lambda: not episodes.get(episode).is_left(0.0))
        small.begin(paused=True)
        later(episodes, LEFT_S + 1)
        client_at("127.0.0.1").begin(paused=True)
        assert reason(client_at("127.0.0.1"), episode) is None


def test_an_episode_is_ended_once_its_readers_are_long_gone(episodes, small):
    episode = small.begin(paused=True)
    assert names(small.events(episode, until="start")) == ["start"]
    wait_until(lambda: episodes.get(episode).is_left(0.0))
    later(episodes, ABANDONED_S - 5)
    assert len(small.client.get("/episodes").json()["episodes"]) == 1
    assert reason(small, episode) is None
    later(episodes, ABANDONED_S + 5)
    wait_until(lambda: reason(small, episode) == "stopped")


def test_a_fast_episode_runs_to_its_end_without_readers(episodes, small):
    episode = small.begin(max_steps=20)
    later(episodes, ABANDONED_S + 5)
    wait_until(lambda: reason(small, episode) == "max_steps")


def test_ended_episodes_are_forgotten_after_their_time(episodes, small):
    episode = small.begin(max_steps=1)
    small.events(episode)
    later(episodes, 599)
    assert [each["episode_id"] for each in small.client.get("/episodes").json()["episodes"]] == [episode]
    later(episodes, 605)
    assert small.client.get("/episodes").json() == {"episodes": [], "max_episodes": 2}


def test_ended_episodes_are_forgotten_when_events_exceed_the_memory(small):
    first = small.begin(frames="png", max_steps=2)
    small.events(first)
    second = small.begin(frames="png", max_steps=3)
    assert names(small.events(second))[-1] == "end"
    assert small.client.get(f"/episodes/{first}").status_code == 404


def test_events_that_somebody_still_reads_count_against_the_memory_after_their_episode_was_deleted(
    small, small_url, episodes
):
    first = small.begin(frames="png", max_steps=2)
    small.events(first)
    deleted = episodes.get(first)
    with connected(small_url, SO_RCVBUF=4096) as deaf:
        deaf.sendall(head(f"GET /episodes/{first}/events HTTP/1.1"))
        wait_until(lambda: deleted.num_readers == 1)
        small.client.delete(f"/episodes/{first}")
        assert deleted.events.num_bytes > 0
        small.events(small.begin(frames="png", max_steps=3))
        assert deleted.events.num_bytes == 0


def test_only_the_last_episodes_that_ended_are_kept(small, monkeypatch):
    monkeypatch.setattr(steered_episodes, "MAX_ENDED", 1)
    kept = [small.begin(max_steps=1), small.begin(max_steps=1)]
    for episode in kept:
        small.end(episode)
    last = small.begin(max_steps=1)
    small.end(last)
    assert [small.client.get(f"/episodes/{each}").status_code for each in (*kept, last)] == [404, 200, 200]


def test_an_episode_that_alone_exceeds_the_memory_ends_with_an_error(small):
    episode = small.begin(frames="png", max_steps=100)
    events = small.events(episode)
    assert (events[-1][1], events[-1][2]["error"]["code"]) == ("error", "episode_too_long")
    assert "VLA_EPISODES_MB" in events[-1][2]["error"]["hint"]
    assert (reason(small, episode), small.status(episode)["status"]) == ("error", "ended")


def test_an_episode_whose_start_alone_exceeds_the_memory_leaves_its_place(app, small):
    body = f"<body name='{2**20 * 'a'}'/></worldbody>"
    episode = small.begin(xml_string=EPISODE["xml_string"].replace("</worldbody>", body))
    assert names(small.events(episode)) == ["start", "error"]
    assert app.state.service.episodes.num_taken == 0


def test_a_reader_that_does_not_read_holds_up_nobody(page, url):
    episode = page.begin(paused=True, frames="png", max_steps=40)
    with connected(url, SO_RCVBUF=4096) as deaf:
        deaf.sendall(head(f"GET /episodes/{episode}/events HTTP/1.1"))
        page.steer(episode, status="running")
        assert len(page.events(episode)) == 43


def test_the_server_ends_all_episodes_when_it_ends():
    app = echo_app()
    with serving(app) as url, httpx.Client(base_url=url, timeout=60) as client:
        wait_until_healthy(url)
        page = Page(client)
        kept = [page.begin(paused=True), page.begin(**ENDLESS)]
        episodes = app.state.service.steered
        running = [episodes.get(each) for each in kept]
    assert [episode.status().reason for episode in running] == ["error", "error"]
    assert not app.state.service.episodes.are_taken


def test_a_reader_gets_a_comment_where_nothing_happens():
    async def first_two() -> list[bytes]:
        kept = KeptEvents()
        kept.add(WrittenEvent(name="start", json="{}"))
        reader = kept.follow(quiet_s=0.01)
        return [await anext(reader), await anext(reader)]

    event, comment = asyncio.run(first_two())
    assert event.startswith(b"event: start")
    assert comment.startswith(b": ")
