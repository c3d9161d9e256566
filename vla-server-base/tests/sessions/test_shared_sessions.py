"""Servers that share their sessions: whichever a robot asks, it gets what one server would have answered."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from types import MappingProxyType

import httpx
import numpy as np
import pytest
from echo_server import wait_until
from shared_servers import (
    ActTurns,
    AddressTurns,
    HeldEcho,
    PredictTurns,
    Servers,
    SocketTurns,
    VlaEvalTurns,
    WindowEcho,
    one_server,
    shared_servers,
)

from vla_server_base.sessions.content import VERSION

LEVELS = (20, 60, 100, 140, 180, 220)
PROTOCOLS = pytest.mark.parametrize("protocol", [PredictTurns, ActTurns, AddressTurns, SocketTurns, VlaEvalTurns])
SETTINGS = pytest.mark.parametrize(
    "settings",
    [
        {"execution": "receding"},
        {"execution": "chunk", "execution_horizon": 3},
        {"execution": "ensemble", "ensemble_weight": 0.3},
        {"execution": "aligned", "inference_delay": 1},
    ],
    ids=lambda settings: settings["execution"],
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def single(folder):
    """One server, which knows nothing of a store."""
    with shared_servers(folder, 1, HeldEcho) as servers:
        yield servers


@pytest.fixture(scope="module")
def three(folder):
    with shared_servers(folder, 3, HeldEcho) as servers:
        yield servers


@pytest.fixture
def servers(three):
    """Three servers without sessions, whose store answers."""
    three.store.lose_everything()
    for server in range(3):
        for session_id in three.session_ids(server):
            three.delete(server, session_id)
    three.store.released.clear()
    yield three
    three.store.is_reachable = True
    three.store.released.set()
    for adapter in three.adapters:
        adapter.gate.set()


def episode(servers: Servers, protocol, order, **fields) -> list[np.ndarray]:
    """What a robot gets that asks the servers in an order, with the first step as in `fields`."""
    with closing(protocol(servers, "arm")) as robot:
        first = {"seed": 7, **fields}
        return [
            robot.ask(server, level, **(first if number == 0 else {}))
            for number, (server, level) in enumerate(zip(order, LEVELS, strict=True))
        ]


@pytest.fixture
def expected(single):
    """What one server answers to the same."""
    single.delete(0)
    single.delete(0, "act:127.0.0.1")
    return lambda protocol, **fields: episode(single, protocol, [0] * len(LEVELS), **fields)


@PROTOCOLS
def test_a_robot_that_asks_now_this_and_now_that_server_gets_what_one_server_answers(servers, expected, protocol):
    found = episode(servers, protocol, (0, 1, 2, 1, 0, 0))
    np.testing.assert_array_equal(found, expected(protocol))


class ChunkingEcho(WindowEcho):
    """An echo that is executed in chunks, unless the client does so itself."""

    changes = MappingProxyType({**WindowEcho.changes, "execution": "chunk", "execution_horizon": 2})


@PROTOCOLS
def test_a_session_keeps_the_defaults_that_it_began_with(folder, protocol):
    with shared_servers(folder, 1, ChunkingEcho) as single, shared_servers(folder, 2, ChunkingEcho) as servers:
        found, expected = episode(servers, protocol, [0, 1] * 3), episode(single, protocol, [0] * 6)
    for actions, of_one in zip(found, expected, strict=True):
        np.testing.assert_array_equal(actions, of_one)


@SETTINGS
def test_chunks_and_their_means_go_on_at_another_server(servers, single, settings):
    def asked(of: Servers, order) -> list:
        replies = [of.predict(server, level, seed=7, **settings) for server, level in zip(order, LEVELS, strict=True)]
        return [(reply["actions"], reply["session"]["step"], reply["session"]["asked_policy"]) for reply in replies]

    single.delete(0)
    assert asked(servers, (0, 1, 0, 2, 2, 1)) == asked(single, [0] * 6)


def test_the_same_request_again_gets_the_same_answer_at_another_server_and_is_not_another_step(servers):
    first = servers.predict(0, 20, seed=7, sequence=0)
    num_predicted = [adapter.num_predicted for adapter in servers.adapters]
    again = [servers.predict(server, 20, sequence=0) for server in (1, 2, 0)]
    assert [each["actions"] for each in again] == [first["actions"]] * 3
    assert [each["session"] for each in again] == [first["session"]] * 3
    assert [adapter.num_predicted for adapter in servers.adapters] == num_predicted
    assert servers.predict(1, 60, sequence=1)["session"]["step"] == 1


@pytest.mark.parametrize("order", ["sequence", "obs_time"])
def test_a_server_that_is_killed_between_save_and_answer_leaves_the_answer_to_the_next(servers, single, order):
    single.delete(0)
    expected = [single.predict(0, level, seed=7, **{order: number})["actions"] for number, level in enumerate(LEVELS)]
    found = [servers.predict(0, LEVELS[0], seed=7, **{order: 0})["actions"]]
    servers.store.holds_next_answer = True
    with pytest.raises(httpx.ReadTimeout):
        servers.post(0, LEVELS[1], timeout_s=1, **{order: 1})
    assert not servers.store.holds_next_answer, "it was saved"
    for number, level in enumerate(LEVELS[1:], 1):
        found.append(servers.predict(1 + number % 2, level, **{order: number})["actions"])
    assert found == expected


def test_a_step_that_was_not_saved_was_not_taken(servers, single):
    """Its server was killed while it computed."""
    single.delete(0)
    expected = [single.predict(0, level, seed=7)["actions"] for level in LEVELS[:3]]
    found = [servers.predict(0, LEVELS[0], seed=7)["actions"]]
    servers.adapters[0].gate.clear()
    with pytest.raises(httpx.ReadTimeout):
        servers.post(0, LEVELS[1], timeout_s=0.5)
    found += [servers.predict(1, level)["actions"] for level in LEVELS[1:3]]
    servers.adapters[0].gate.set()
    assert found == expected


def test_what_a_step_without_an_answer_saw_is_in_the_window_of_another_server(servers, single):
    for of in (servers, single):
        of.delete(0)
        of.predict(0, 20, seed=7, sequence=0)
        of.adapters[0].gate.clear()
        assert of.refused(0, level=60, sequence=1, deadline_ms=100) == (504, "deadline_exceeded")
        of.adapters[0].gate.set()
    replies = [of.predict(other, 100, sequence=2) for of, other in ((servers, 1), (single, 0))]
    assert replies[0]["actions"] == replies[1]["actions"]
    assert [reply["session"]["step"] for reply in replies] == [2, 2]


def test_a_step_that_failed_at_one_server_is_computed_at_another(servers, single):
    servers.predict(0, 20, seed=7, sequence=0)
    servers.adapters[0].gate.clear()
    assert servers.refused(0, level=60, sequence=1, deadline_ms=100) == (504, "deadline_exceeded")
    servers.adapters[0].gate.set()
    single.delete(0)
    expected = [single.predict(0, level, seed=7, sequence=n) for n, level in enumerate((20, 60))][-1]
    again = servers.predict(1, 60, sequence=1)
    assert (again["actions"], again["session"]["step"]) == (expected["actions"], 1)


def test_of_two_steps_at_once_each_is_answered_as_if_one_server_had_got_both_in_turn(servers, single):
    for of in (servers, single):
        of.delete(0)
        of.predict(0, 20, seed=7, sequence=0)
    servers.predict(1, 20, sequence=0)
    servers.adapters[0].gate.clear()
    with ThreadPoolExecutor(1) as threads:
        num_before = servers.adapters[0].num_predicted
        slow = threads.submit(servers.predict, 0, 100, sequence=2)
        wait_until(lambda: servers.adapters[0].num_predicted > num_before)
        quick = servers.predict(1, 60, sequence=1)
        servers.adapters[0].gate.set()
        overtaken = slow.result()
    expected = [single.predict(0, level, sequence=number) for number, level in ((1, 60), (2, 100))]
    for found, of_one in zip((quick, overtaken), expected, strict=True):
        assert found["actions"] == of_one["actions"]
        assert found["session"]["step"] == of_one["session"]["step"]


def test_the_same_step_at_two_servers_at_once_is_one_step(servers):
    servers.predict(0, 20, seed=7, sequence=0)
    for adapter in servers.adapters:
        adapter.gate.clear()
    before = [adapter.num_predicted for adapter in servers.adapters]
    with ThreadPoolExecutor(3) as threads:
        asked = [threads.submit(servers.predict, server, 60, sequence=1) for server in range(3)]
        wait_until(lambda: all(a.num_predicted > b for a, b in zip(servers.adapters, before, strict=True)))
        for adapter in servers.adapters:
            adapter.gate.set()
        replies = [each.result() for each in asked]
    assert len({str(reply["actions"]) for reply in replies}) == 1
    assert {reply["session"]["step"] for reply in replies} == {1}
    assert servers.predict(2, 100, sequence=2)["session"]["step"] == 2


def test_a_step_that_another_server_has_answered_meanwhile_gets_its_answer(servers):
    servers.predict(0, 20, seed=7, sequence=0)
    servers.adapters[0].gate.clear()
    with ThreadPoolExecutor(1) as threads:
        before = servers.adapters[0].num_predicted
        waiting = threads.submit(servers.predict, 0, 60, sequence=1)
        wait_until(lambda: servers.adapters[0].num_predicted > before)
        answered = servers.predict(1, 60, sequence=1)
        again = servers.predict(0, 60, sequence=1)
        assert waiting.result()["actions"] == again["actions"] == answered["actions"]


def test_a_step_that_is_older_than_another_servers_is_superseded(servers):
    servers.predict(0, 20, sequence=4)
    servers.predict(1, 60, sequence=6)
    assert servers.refused(0, sequence=5) == (409, "superseded")
    assert servers.predict(0, 100, sequence=7)["session"]["step"] == 3


def test_a_hundred_steps_at_once_without_numbers_are_a_hundred_steps(servers):
    servers.predict(0, 20, seed=7)

    def steps_at(server: int) -> list[int]:
        taken = []
        while len(taken) < 33:
            response = servers.post(server)
            if response.status_code == 200:
                taken.append(response.json()["session"]["step"])
            else:
                assert response.json()["error"]["code"] == "superseded"
        return taken

    with ThreadPoolExecutor(3) as threads:
        taken = [step for steps in threads.map(steps_at, range(3)) for step in steps]
    assert len(set(taken)) == len(taken) == 99


def test_an_episode_that_begins_at_one_server_has_begun_at_all(servers, single):
    for of, first, second in ((servers, 0, 1), (single, 0, 0)):
        of.delete(0)
        for level in LEVELS[:3]:
            of.predict(first, level, seed=7)
        of.client.post(f"{of.urls[second]}/reset", json={"session_id": "arm", "seed": 8}).raise_for_status()
    found, expected = servers.predict(0, 140), single.predict(0, 140)
    assert (found["actions"], found["seed"], found["session"]["step"]) == (expected["actions"], 8, 0)


def test_an_episode_that_one_servers_step_begins_goes_on_at_another(servers):
    servers.predict(0, 20, seed=7)
    servers.predict(1, 60, reset=True, seed=9)
    third = servers.predict(0, 100)
    assert (third["seed"], third["session"]["step"]) == (9, 1)


def test_a_session_that_is_ended_at_one_server_has_ended_at_all(servers):
    servers.predict(0, 20, seed=7)
    servers.predict(1, 60)
    ended = servers.delete(2)
    assert (ended.status_code, ended.json()["step"], ended.json()["seed"]) == (200, 2, 7)
    assert servers.delete(1).status_code == 404
    began = [servers.predict(server, 100, seed=8)["session"]["step"] for server in (0, 1, 2)]
    assert began == [0, 1, 2]


def test_a_step_that_computes_while_another_server_ends_its_session_is_superseded(servers):
    servers.predict(0, 20, seed=7)
    servers.adapters[0].gate.clear()
    with ThreadPoolExecutor(1) as threads:
        before = servers.adapters[0].num_predicted
        asked = threads.submit(servers.refused, 0, level=60)
        wait_until(lambda: servers.adapters[0].num_predicted > before)
        assert servers.delete(1).status_code == 200
        servers.adapters[0].gate.set()
        assert asked.result() == (409, "superseded")
    assert servers.predict(0, 60)["session"]["step"] == 0


def test_a_session_that_its_connection_left_has_ended_at_all_servers(servers):
    with closing(SocketTurns(servers, "arm")) as robot:
        robot.ask(0, 20, seed=7)
        robot.session_id = "other"
        robot.ask(0, 20)
    assert servers.delete(1).status_code == 404
    assert servers.predict(1, 60)["session"]["step"] == 0


def test_a_session_that_went_on_by_another_connection_survives_the_end_of_the_first(servers):
    with closing(SocketTurns(servers, "arm")) as robot:
        robot.ask(0, 20, seed=7)
        servers.predict(1, 60)
        robot.session_id = "other"
        robot.ask(0, 20)
    assert servers.predict(2, 60)["session"]["step"] == 2


def test_a_connections_own_session_is_kept_by_its_server_alone(servers):
    with closing(SocketTurns(servers, None)) as robot:
        num_asked = servers.store.num_loads, servers.store.num_saves
        answers = [robot.ask(0, level) for level in LEVELS[:2]]
    assert answers[1][0][5] == 2, "the window goes on"
    assert (servers.store.num_loads, servers.store.num_saves) == num_asked


def test_a_store_that_does_not_answer_makes_no_answer_of_what_may_be_old(servers):
    servers.predict(0, 20, seed=7, sequence=0)
    servers.store.is_reachable = False
    response = servers.post(0, level=60, sequence=1)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "unavailable")
    assert "Retry-After" in response.headers
    assert servers.refused(0, level=20, sequence=0) == (503, "unavailable"), "another server may have had a newer one"
    assert servers.delete(0).status_code == 503
    servers.store.is_reachable = True
    assert [servers.predict(server, 60, sequence=1)["session"]["step"] for server in (1, 0)] == [1, 1]


@SETTINGS
def test_a_step_that_could_not_be_saved_is_not_computed_twice(servers, single, settings):
    single.delete(0)
    first = {"seed": 7, **settings}
    expected = [single.predict(0, level, sequence=n, **first)["actions"] for n, level in enumerate(LEVELS[:3])]
    found = [servers.predict(0, LEVELS[0], sequence=0, **first)["actions"]]
    servers.adapters[0].gate.clear()
    with ThreadPoolExecutor(1) as threads:
        before = servers.adapters[0].num_predicted
        failing = threads.submit(servers.post, 0, level=LEVELS[1], sequence=1, **first)
        if settings["execution"] != "chunk":
            wait_until(lambda: servers.adapters[0].num_predicted > before)
        servers.store.is_reachable = False
        servers.adapters[0].gate.set()
        failing.result()
    servers.store.is_reachable = True
    found += [servers.predict(0, level, sequence=n, **first)["actions"] for n, level in enumerate(LEVELS[1:3], 1)]
    assert found == expected


def test_a_numbered_robot_goes_on_where_the_store_has_lost_everything(servers, single):
    single.delete(0)
    expected = [single.predict(0, level, seed=7, sequence=n)["actions"] for n, level in enumerate(LEVELS)]
    found = [servers.predict(0, level, seed=7, sequence=n)["actions"] for n, level in enumerate(LEVELS[:2])]
    servers.store.lose_everything()
    found += [servers.predict(0, LEVELS[2], sequence=2)["actions"]]
    found += [servers.predict(1 + n % 2, level, sequence=n)["actions"] for n, level in enumerate(LEVELS) if n > 2]
    assert found == expected


def test_a_copy_that_may_be_old_is_not_gone_on_from_where_the_store_has_lost_everything(servers):
    servers.predict(0, 20, seed=7, sequence=0)
    servers.predict(1, 60, sequence=1)
    servers.predict(1, 100, sequence=2)
    servers.store.lose_everything()
    assert servers.refused(0, sequence=3) == (410, "session_gone")
    assert servers.refused(0) == (410, "session_gone"), "without a number nobody knows"
    assert servers.predict(1, 140, sequence=3)["session"]["step"] == 3
    assert servers.predict(0, 180, sequence=4)["session"]["step"] == 4


@pytest.mark.parametrize("begins", [{"reset": True}, {"session_id": "arm-2"}])
def test_a_session_that_is_gone_can_begin_again(servers, begins):
    servers.predict(0, 20)
    servers.store.lose_everything()
    assert servers.refused(0) == (410, "session_gone")
    assert servers.predict(0, 20, **begins)["session"]["step"] == 0
    begins = {name: value for name, value in begins.items() if name != "reset"}
    assert servers.predict(1, 60, **begins)["session"]["step"] == 1


def test_where_all_copies_are_gone_a_token_goes_on_and_an_id_begins(servers, folder):
    with one_server(WindowEcho(), folder, servers.store) as url:
        killed = Servers([url])
        killed.predict(0, 20, seed=7, sequence=0)
        token = killed.predict(0, 60, sequence=1, return_token=True)["session"]["token"]
        whole = killed.predict(0, 100, sequence=2)
    servers.store.lose_everything()
    resumed = servers.predict(0, 100, sequence=2, session_token=token, session_id=None)
    assert resumed["actions"] == whole["actions"]
    assert servers.predict(1, 100, sequence=2)["actions"] == whole["actions"]
    servers.delete(0)
    servers.store.lose_everything()
    assert servers.predict(2, 140, sequence=3)["session"]["step"] == 0


def test_a_token_does_not_take_a_session_back_to_what_it_was(servers, single):
    for of, others in ((single, (0, 0, 0)), (servers, (0, 1, 2))):
        of.delete(0)
        token = of.predict(others[0], 20, seed=7, return_token=True)["session"]["token"]
        of.predict(others[1], 60)
        resumed = of.predict(others[2], 100, session_token=token, session_id=None)
        assert resumed["session"]["step"] == 2


def test_a_session_of_another_model_is_not_begun_again_in_silence(servers, folder):
    servers.predict(0, 20, seed=7)
    with one_server(WindowEcho(), folder, servers.store, model_id="other") as url:
        other = Servers([url])
        response = other.post(0)
        assert (response.status_code, response.json()["error"]["code"]) == (410, "session_gone")
        assert "is on the model 'echo', which is not held here" in response.json()["error"]["message"]
        assert servers.predict(0, 60)["session"]["step"] == 1, "nothing has changed"
        assert other.predict(0, 20, reset=True)["session"]["step"] == 0
        assert servers.refused(0) == (410, "session_gone")


def test_a_session_that_another_version_of_the_server_saved_is_not_begun_again_in_silence(servers):
    servers.predict(0, 20, seed=7)
    servers.store.change_content("arm", version=VERSION - 1)
    response = servers.post(0)
    assert (response.status_code, response.json()["error"]["code"]) == (410, "session_gone")
    assert "made by another version of this server" in response.json()["error"]["message"]
    assert servers.predict(0, 20, reset=True)["session"]["step"] == 0
    assert servers.predict(1, 60)["session"]["step"] == 1


def test_what_is_forgotten_here_goes_on_from_the_store(folder):
    with shared_servers(folder, 2, max_sessions=1) as servers:
        servers.predict(0, 20, seed=7)
        servers.predict(0, 20, session_id="another")
        assert [servers.session_ids(server) for server in range(2)] == [["another"], []]
        assert servers.predict(0, 60)["session"]["step"] == 1


def test_many_robots_at_many_servers_get_what_each_gets_alone(servers, single):
    def robot(of: Servers, name: str, seed: int, order) -> list:
        return [
            of.predict(server, level, session_id=name, sequence=number, seed=seed)["actions"]
            for number, (server, level) in enumerate(zip(order, LEVELS, strict=True))
        ]

    names = [f"robot-{number}" for number in range(8)]
    orders = [[(number + step) % 3 for step in range(6)] for number in range(8)]
    alone = [robot(single, f"{name}-alone", seed, [0] * 6) for seed, name in enumerate(names)]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda each: robot(servers, each[1], each[0], orders[each[0]]), enumerate(names)))
    assert together == alone
