"""What a server remembers of earlier requests changes when an answer comes, and no bit of it."""

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from octo_service.inference.cache import KEEP_S, InferenceCache
from octo_service.model import OctoModel
from octo_service.preprocessing.content import CONTENT, digest

NUM_STEPS = 5


@pytest.fixture(scope="module")
def model() -> OctoModel:
    return OctoModel.load_pretrained("random://octo-tiny")


def episode(model: OctoModel, seed: int) -> tuple[list[dict], dict]:
    """Every window of an episode of noise pictures, padded at first, and its task."""
    random = np.random.default_rng(seed)
    pictures = random.integers(0, 256, (NUM_STEPS, 256, 256, 3), np.uint8)
    windows = []
    for step in range(NUM_STEPS):
        shown = [max(step - 1, 0), step]
        contents = [digest({"primary": pictures[index]}) for index in shown]
        windows.append(
            {
                "image_primary": pictures[shown][None],
                "timestep_pad_mask": np.array([[step > 0, True]]),
                CONTENT: np.stack(contents)[None],
            }
        )
    tasks = model.create_tasks(texts=[f"stack {seed} blocks"])
    return windows, {**tasks, CONTENT: digest({}, seed)[None]}


def cache_of(model: OctoModel, prefill_mb: int = 64, clock: Callable[[], float] = time.monotonic) -> InferenceCache:
    return InferenceCache(model.stepwise, lambda tokens: model.embed_text(**tokens), prefill_mb, clock)


def whole(pieces: Iterator[None]) -> None:
    for _ in pieces:
        pass


def one(pieces: Iterator[None]) -> None:
    next(pieces)


@pytest.mark.parametrize("prepare", [whole, one])
def test_nothing_changes_by_what_was_prepared(model: OctoModel, prepare: Callable[[Iterator[None]], None]):
    windows, task = episode(model, 3)
    plain, prepared = cache_of(model), cache_of(model)
    for window in windows:
        expected = plain.read_out(window, task)
        np.testing.assert_array_equal(prepared.read_out(window, task).tokens, expected.tokens)
        prepare(prepared.prefetch(window, task))
        np.testing.assert_allclose(
            expected.tokens[:, -1],
            model.read_out(window, task, window["timestep_pad_mask"]).tokens[:, -1],
            rtol=0,
            atol=2e-5,
        )


@pytest.mark.parametrize("prefill_mb", [0, 1])
def test_robots_that_take_turns_get_what_each_gets_alone_however_little_is_kept(model: OctoModel, prefill_mb: int):
    episodes = [episode(model, seed) for seed in range(3)]
    alone = [
        [np.asarray(cache_of(model).read_out(window, task).tokens) for window in windows] for windows, task in episodes
    ]
    together = cache_of(model, prefill_mb)
    for step in range(NUM_STEPS):
        for number, (windows, task) in enumerate(episodes):
            found = together.read_out(windows[step], task)
            np.testing.assert_array_equal(found.tokens, alone[number][step])
            whole(together.prefetch(windows[step], task))


def test_what_was_computed_in_part_when_something_failed_is_not_used(model: OctoModel, monkeypatch: pytest.MonkeyPatch):
    windows, task = episode(model, 4)
    expected = [np.asarray(cache_of(model).read_out(window, task).tokens) for window in windows[:2]]
    kept = cache_of(model)
    np.testing.assert_array_equal(kept.read_out(windows[0], task).tokens, expected[0])
    pieces = kept.prefetch(windows[0], task)
    next(pieces)

    def fail(*_):
        raise MemoryError("the device is full")

    with monkeypatch.context() as patched:
        patched.setattr(model.stepwise._layerwise, "_append", fail)
        with pytest.raises(MemoryError):
            whole(pieces)
    np.testing.assert_array_equal(kept.read_out(windows[1], task).tokens, expected[1])


def test_what_is_seen_and_said_is_told_apart():
    black, white = np.zeros((4, 4, 3), np.uint8), np.ones((4, 4, 3), np.uint8)
    digests = [
        digest({"primary": black}),
        digest({"primary": white}),
        digest({"wrist": black}),
        digest({"primary": black.reshape(2, 8, 3)}),
        digest({"primary": black, "wrist": black}),
        digest({"primary": black}, b"\0\0\0\0"),
        digest({}, "lift"),
        digest({}, None),
    ]
    assert len({each.tobytes() for each in digests}) == len(digests)


def test_the_lookups_of_an_episode_say_that_its_steps_were_prefetched(model: OctoModel):
    windows, task = episode(model, 4)
    cache = cache_of(model)
    for window in windows:
        cache.read_out(window, task)
        whole(cache.prefetch(window, task))
    prefills = cache.lookups["prefill"]
    assert (prefills.hits, prefills.misses) == (NUM_STEPS - 1, 1)
    assert cache.lookups["prefix"].misses == 1
    assert cache.lookups["observation"].misses == NUM_STEPS


def test_what_was_prepared_for_a_robot_that_has_left_is_dropped_after_a_minute(model: OctoModel):
    now = 0.0
    cache = cache_of(model, clock=lambda: now)
    windows, task = episode(model, 5)
    expected = [np.asarray(cache_of(model).read_out(window, task).tokens) for window in windows]
    for seed in range(6, 9):
        (first, *_), other = episode(model, seed)
        whole(cache.prefetch(first, other))
    assert len(cache._prefills) == 3
    whole(cache.prefetch(windows[0], task))
    now = KEEP_S
    whole(cache.prefetch(windows[1], task))
    assert len(cache._prefills) == 1
    for step in (1, 2):
        np.testing.assert_array_equal(cache.read_out(windows[step], task).tokens, expected[step])
    assert cache.lookups["prefill"].hits == 1, "a robot that pauses for longer waits a little more for its next step"
