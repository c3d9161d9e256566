"""ControlLoop against a live server whose actions say which step they answer.

Nothing here depends on how fast the machine is: the loop says at which step each action was played.
"""

import time

import numpy as np
import pytest
from counting_policy import HORIZON, counting_server
from tcp_proxy import proxied

from vla_client import ControlLoop, ObservationError, Policy, PolicyError, SessionLost
from vla_client.action_kinds import Kind

KINDS: dict[str, Kind] = {"asked_step": "switch", "row": "switch", "x": "target"}
OBSERVATION = {"primary": np.zeros((8, 8, 3), np.uint8), "instruction": "count"}


@pytest.fixture(scope="module")
def server():
    with counting_server() as server:
        yield server


@pytest.fixture
def adapter(server):
    return server[0]


@pytest.fixture
def proxy(server):
    with proxied(server[1]) as proxy:
        yield proxy


@pytest.fixture
def policy(proxy, adapter):
    with Policy(proxy.url, seed=0) as policy:
        yield policy
    adapter.may_answer.set()


def observe():
    return OBSERVATION


def until(loop: ControlLoop, is_enough) -> list[tuple[int, np.ndarray]]:
    """Tick until it is enough; return the step and the action of each tick."""
    ticks = []
    while not is_enough():
        action = loop.tick(observe)
        ticks.append((loop.step, action))
    return ticks


def has_moved(loop: ControlLoop, num_ticks: int = 1):
    """Return whether the loop has played rows in so many more ticks than now."""
    enough = num_moves(loop) + num_ticks
    return lambda: num_moves(loop) >= enough


def num_moves(loop: ControlLoop) -> int:
    return loop.statistics.num_ticks - loop.statistics.num_held


def test_every_action_is_the_row_of_its_step(policy):
    with ControlLoop(policy, rate_hz=50, kinds=KINDS) as loop:
        ticks = until(loop, lambda: loop.statistics.num_asked > 5)
    moved = [(step, action) for step, action in ticks if action[3]]
    assert all(asked + row == x == step for step, (asked, row, x, _) in moved)
    assert len(ticks) - len(moved) == loop.statistics.num_held


def test_each_answer_is_newer_and_old_rows_are_dropped(policy):
    with ControlLoop(policy, rate_hz=50, kinds=KINDS) as loop:
        ticks = until(loop, lambda: loop.statistics.num_asked > 5)
        statistics = loop.statistics
    asked = [int(action[0]) for _, action in ticks]
    assert asked == sorted(asked)
    # An answer comes a step after its observation at the earliest.
    assert all(action[1] > 0 for _, action in ticks if action[0] > 0)
    assert statistics.num_stale_rows >= len(set(asked)) - 1


def test_without_a_row_left_the_robot_holds_still_until_an_answer_comes(policy, adapter):
    with ControlLoop(policy, rate_hz=50, kinds=KINDS) as loop:
        first = loop.tick(observe)
        adapter.may_answer.clear()
        ticks = until(loop, lambda: loop.statistics.num_held == 3)
        adapter.may_answer.set()
        *_, (step, (asked, row, x, dx)) = until(loop, has_moved(loop))
    *rows, (held_step, held), _, _ = [(0, first), *ticks]
    assert all((asked, row) == (0, step) for step, (asked, row, _, _) in rows)
    # Targets stay where they were, and motions are 0.
    np.testing.assert_array_equal(held, [*rows[-1][1][:3], 0.0])
    assert held_step >= HORIZON
    assert asked > 0
    assert asked + row == x == step
    assert dx == 1.0
    assert loop.statistics.num_failed > 0


def test_it_goes_on_after_a_broken_connection(policy, proxy):
    with ControlLoop(policy, rate_hz=50, kinds=KINDS) as loop:
        loop.tick(observe)
        for _ in range(3):
            proxy.cut()
            ticks = until(loop, has_moved(loop, 2 * HORIZON))
            assert all(asked + row == x == step for step, (asked, row, x, dx) in ticks if dx)
    assert proxy.num_connections > 1


def test_it_goes_on_after_a_connection_that_went_silent(policy, proxy):
    with ControlLoop(policy, rate_hz=50, kinds=KINDS) as loop:
        loop.tick(observe)
        proxy.stall()
        until(loop, lambda: loop.statistics.num_held > 0)
        until(loop, has_moved(loop, HORIZON))
    assert loop.statistics.num_failed > 0
    assert proxy.num_connections > 1


def test_on_loss_says_what_to_do_without_a_row(policy, adapter):
    with ControlLoop(policy, rate_hz=50, kinds=KINDS, on_loss=lambda last: last - 100) as loop:
        loop.tick(observe)
        adapter.may_answer.clear()
        ticks = until(loop, lambda: loop.statistics.num_held == 2)
        adapter.may_answer.set()
    (_, last), (_, once), (_, twice) = [(0, np.array([0.0, 0.0, 0.0, 1.0])), *ticks][-3:]
    np.testing.assert_array_equal(twice, last - 200)
    np.testing.assert_array_equal(once, last - 100)


def test_rows_are_interpolated_between_the_rates(policy):
    with ControlLoop(policy, rate_hz=100, policy_hz=20, kinds=KINDS) as loop:
        assert (loop.rate_hz, loop.policy_hz) == (100, 20)
        ticks = until(loop, lambda: loop.statistics.num_asked > 3)
    for step, (asked, row, x, dx) in ticks:
        if not dx:  # held: on a busy machine an answer may come late
            continue
        assert asked + row == step
        # Within a step x runs to the next row's, and a fifth of the motion is each tick's.
        assert step <= x < step + 1
        assert (5 * x).round(6) % 1 == 0
        assert dx == pytest.approx(0.2)


def test_a_policy_far_slower_than_the_robot_still_comes_to_its_next_row(policy):
    with ControlLoop(policy, rate_hz=20_000, policy_hz=0.5, kinds=KINDS) as loop:
        loop.tick(observe)
        time.sleep(2.1)
        loop.tick(observe)
        assert loop.step >= 1


def test_with_ask_below_rows_are_used_up_first(policy):
    with ControlLoop(policy, rate_hz=50, ask_below=3, kinds=KINDS) as loop:
        ticks = until(loop, lambda: loop.statistics.num_asked > 3)
    asked = sorted({int(action[0]) for _, action in ticks})
    assert all(later - earlier >= HORIZON - 2 for earlier, later in zip(asked, asked[1:]))


def test_the_policys_rate_is_the_servers(policy):
    with ControlLoop(policy, rate_hz=100, kinds=KINDS) as loop:
        assert loop.policy_hz == 50.0


def test_run_acts_and_observes(policy):
    actions = []
    with ControlLoop(policy, rate_hz=50, kinds=KINDS) as loop:
        loop.run(observe, actions.append, num_ticks=5)
    assert len(actions) == loop.statistics.num_ticks == 5
    assert loop.statistics.num_late <= loop.statistics.num_skipped
    assert 0 < loop.statistics.latency_ms.p50 <= loop.statistics.latency_ms.max
    assert 0 < loop.statistics.period_ms.p50 <= loop.statistics.period_ms.p99 <= loop.statistics.period_ms.max
    assert loop.inference_delay is None or loop.inference_delay >= 1


def test_late_ticks_skip_what_is_over(policy):
    with ControlLoop(policy, rate_hz=50, kinds=KINDS) as loop:
        loop.tick(observe)
        time.sleep(0.05)
        loop.tick(observe)
        assert loop.statistics.num_late == 1
        assert loop.step == 1 + loop.statistics.num_skipped >= 2


def test_an_error_of_the_camera_is_raised_in_the_tick(policy):
    def broken():
        raise OSError("no camera")

    with ControlLoop(policy, rate_hz=50, kinds=KINDS) as loop:
        with pytest.raises(OSError, match="no camera"):
            loop.tick(broken)
        assert loop.tick(observe)[0] == 0


@pytest.mark.parametrize(
    ("observation", "error"), [({**OBSERVATION, "reset": True}, ObservationError), ({"instruction": "go"}, PolicyError)]
)
def test_a_refused_observation_is_raised_in_a_tick(policy, observation, error):
    with ControlLoop(policy, rate_hz=50, kinds=KINDS) as loop:
        loop.tick(observe)
        with pytest.raises(error):
            loop.run(lambda: observation, lambda action: None, num_ticks=10_000)
        until(loop, has_moved(loop, HORIZON))


def test_a_lost_session_is_raised_and_a_reset_begins_a_new_one(policy, proxy):
    with counting_server() as (_, other_url), ControlLoop(policy, rate_hz=50, kinds=KINDS) as loop:
        loop.tick(observe)
        proxy.lead_to(other_url.replace("ws", "http", 1))
        with pytest.raises(SessionLost):
            loop.run(observe, lambda action: None, num_ticks=10_000)
        loop.reset(seed=5)
        assert loop.statistics.num_ticks == 0
        assert loop.tick(observe)[0] == 0
        assert policy.seed == 5


def test_what_would_move_the_robot_wrongly_is_refused(policy):
    with pytest.raises(ValueError, match="at least the policy's rate, 50 Hz, got 20 Hz"):
        ControlLoop(policy, rate_hz=20)
    with pytest.raises(ValueError, match="at least the policy's rate, 50 Hz, got inf Hz"):
        ControlLoop(policy, rate_hz=float("inf"))
    with pytest.raises(ValueError, match="'wrist' is not a number of this policy's action"):
        ControlLoop(policy, rate_hz=50, kinds={"wrist": "target"})
    with pytest.raises(ValueError, match="expected one of target, delta, velocity, switch, got 'jump'"):
        ControlLoop(policy, rate_hz=50, kinds={**KINDS, "x": "jump"})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("execution", ["chunk", "ensemble"])
def test_answers_that_end_before_the_next_ones_come_are_refused(proxy, execution):
    refused = pytest.raises(ValueError, match=f"execution '{execution}' answers with actions that are over")
    with Policy(proxy.url, execution=execution) as policy, refused:
        ControlLoop(policy, rate_hz=50)


@pytest.mark.parametrize("execution", ["aligned", "blended"])
def test_a_continued_chunk_is_played_without_a_jump(proxy, adapter, execution):
    adapter.may_answer.set()
    with Policy(proxy.url, execution=execution) as policy, ControlLoop(policy, rate_hz=50, kinds=KINDS) as loop:
        ticks = until(loop, lambda: loop.statistics.num_asked > 5)
        assert loop.inference_delay is not None
    assert all(x == pytest.approx(step) for step, (_, _, x, dx) in ticks if dx)
