"""The session store: only a newer version replaces what is stored, within bounds of memory and time."""

import pickle

import pytest

from vla_server_base.errors import Overloaded
from vla_server_base.sessions.store import NOTHING, MemoryStore, StoredSession, newest

pytestmark = pytest.mark.anyio

ARM, OTHER = ("", "arm"), ("lab", "arm")


@pytest.fixture
def store():
    return MemoryStore(2**20, 60.0)


async def test_a_version_comes_back_whole_and_only_to_those_who_do_not_have_it(store):
    assert await store.load_newer(ARM, NOTHING) is None
    assert await store.save(ARM, 1, b"one")
    assert await store.load_newer(ARM, NOTHING) == StoredSession(version=1, content=b"one")
    assert await store.load_newer(ARM, 1) is None
    assert await store.load_newer(OTHER, NOTHING) is None, "another owner's session of the same id"


async def test_of_two_servers_that_go_on_from_one_version_one_is_told(store):
    await store.save(ARM, 1, b"one")
    assert await store.save(ARM, 2, b"first")
    assert not await store.save(ARM, 2, b"second")
    assert not await store.save(ARM, 1, b"one")
    assert await store.load_newer(ARM, 1) == StoredSession(version=2, content=b"first")


async def test_a_save_whose_answer_was_lost_can_be_repeated(store):
    assert await store.save(ARM, 1, b"one")
    assert await store.save(ARM, 1, b"one")


async def test_an_ended_session_does_not_come_back(store):
    await store.save(ARM, 1, b"one")
    assert await store.save(ARM, 2, None)
    assert not await store.save(ARM, 2, b"a step that was on its way")
    assert await store.load_newer(ARM, 1) == StoredSession(version=2, content=None)
    assert await store.save(ARM, 3, b"another session of this id")


async def test_a_store_that_has_lost_everything_takes_what_comes_and_the_newest_counts(store):
    stores = MemoryStore(2**20, 60.0), store
    await store.save(ARM, 4, b"four")

    async def loaded(version: int) -> StoredSession | None:
        return newest([await each.load_newer(ARM, version) for each in stores], version)

    assert await loaded(NOTHING) == StoredSession(version=4, content=b"four")
    assert await loaded(3) == StoredSession(version=4, content=b"four")
    assert await loaded(4) is None
    assert [await each.save(ARM, 5, b"five") for each in stores] == [True, True]
    assert [await each.load_newer(ARM, 5) for each in stores] == [None, None]
    assert await loaded(6) == StoredSession(version=5, content=b"five"), "both have lost what the caller has"


async def test_the_least_recently_used_session_makes_room():
    store = MemoryStore(3 * 2**10, 60.0)
    for number in range(3):
        await store.save(("", str(number)), 1, bytes(512))
    await store.load_newer(("", "0"), NOTHING)
    await store.save(("", "3"), 1, bytes(512))
    held = [await store.load_newer(("", str(number)), NOTHING) is not None for number in range(4)]
    assert held == [True, False, True, True]
    assert (store.num_sessions, store.num_bytes) == (3, 3 * 2**10)


async def test_what_is_larger_than_the_store_is_refused(store):
    with pytest.raises(Overloaded, match="room for 1048576"):
        await store.save(ARM, 1, bytes(2**20))
    assert await store.load_newer(ARM, NOTHING) is None


async def test_a_session_that_was_not_saved_for_long_is_forgotten():
    now = [0.0]
    store = MemoryStore(2**20, 60.0, lambda: now[0])
    await store.save(ARM, 1, b"one")
    now[0] = 50.0
    await store.save(ARM, 2, b"two")
    now[0] = 100.0
    assert await store.load_newer(ARM, NOTHING) is not None
    now[0] = 111.0
    assert await store.load_newer(ARM, 2) == StoredSession(version=NOTHING)
    assert store.num_sessions == 0


def test_what_is_stored_can_be_pickled():
    stored = StoredSession(version=3, content=b"three")
    assert pickle.loads(pickle.dumps(stored)) == stored
