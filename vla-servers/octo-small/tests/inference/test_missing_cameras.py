"""Cameras and proprio that come and go: masked as by the reference, and what one robot sees never reaches another.

`pytest tests/inference/test_missing_cameras.py --windows 10000` asks for more.
"""

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import jax
import numpy as np
import pytest
from small_octo import checkpoint_with_two_cameras_and_proprio

from octo_service.adapter import PREFILL_MB, OctoSmallAdapter
from octo_service.checkpoints.saving import save_checkpoint
from octo_service.inference.batched import BatchedInference
from octo_service.inference.cache import InferenceCache
from octo_service.preprocessing.images import resize_lanczos
from octo_service.preprocessing.vocabulary import word_vocabulary
from vla_server_base.config import ServerConfig
from vla_server_base.contract import Observation, PolicyInput, PolicyRequest, Task, Window
from vla_server_base.engine.engine import Engine
from vla_server_base.engine.engines import Engines
from vla_server_base.engine.in_process import InProcessEngine
from vla_server_base.sessions.action_chunking import ObservationWindow
from vla_server_base.sessions.registry import Sessions
from vla_server_base.sessions.requests import StepRequest
from vla_server_base.sessions.step import run_step

CAMERAS = ("primary", "wrist")
NUM_ROBOTS = 5
# Whole windows and single timesteps round differently, and the head amplifies that.
TOLERANCE = 2e-4

Asked = tuple[Window, Task, int, int]
"""What a policy is asked: a window and a task, with a seed and a step."""


@pytest.fixture(scope="module", params=[2, 3])
def adapter(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> OctoSmallAdapter:
    folder, adapter = tmp_path_factory.mktemp("checkpoint"), OctoSmallAdapter()
    words = word_vocabulary(["lift it", "put it down"])
    save_checkpoint(folder, replace(checkpoint_with_two_cameras_and_proprio(request.param), vocabulary=words))
    adapter.load_model(str(folder), "cpu", tmp_path_factory.mktemp("cache"))
    return adapter


class World:
    """What robots may see and be told: so little that they often see the same."""

    def __init__(self, seed: int):
        self.random = np.random.default_rng(seed)
        sizes = [(32, 32), (48, 40), (32, 32)]
        self._pictures = [self.random.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
        self._proprios = [np.array(numbers, np.float64) for numbers in ([0.1, 0.2, 0.3, 0.4], [0, 0, 0, 0])]
        goals = [{}, {"primary": self._pictures[0]}]
        told = itertools.product(("lift it", "put it down"), goals)
        self._tasks = [Task(instruction=text, goal_images=goal) for text, goal in told]

    def task(self) -> Task:
        return self._tasks[self.random.integers(len(self._tasks))]

    def observation(self, *needed: str) -> Observation:
        """Draw one in which any camera but `needed` ones may be missing, and proprio, but never all cameras."""
        some = {name for name in CAMERAS if self.random.random() < 0.6} or {CAMERAS[self.random.integers(2)]}
        pictures = {name: self._pictures[self.random.integers(3)] for name in CAMERAS if name in some | {*needed}}
        numbers = [*self._proprios, None][self.random.integers(3)]
        return Observation(images=pictures, proprio=numbers)


def shows_first(history: ObservationWindow, length: int) -> bool:
    """Say whether the next window shows the first camera, whatever the next observation does."""
    return any("primary" in seen.images for seen in history.seen[1 - length :])


class Robot:
    """A robot with a session, and what it has to be answered by."""

    def __init__(self, number: int, world: World, length: int):
        self._id, self._world, self._length, self._seed = f"arm-{number}", world, length, number % 2
        self._token: str | None = None
        self._begin()

    def _begin(self) -> None:
        self._history, self._task, self._step = ObservationWindow(self._length), self._world.task(), 0

    async def act(self, sessions: Sessions) -> tuple[np.ndarray, Asked]:
        """Take a turn; now and then a new episode begins with it, or it is the last before its session is lost."""
        starts_anew, is_last = self._world.random.random(2) < 0.1
        if starts_anew:
            self._begin()
        seen = self._world.observation(*([] if shows_first(self._history, self._length) else ["primary"]))
        window, step = self._history.append(seen), self._step
        self._step += 1
        request = StepRequest(observation=seen, task=self._task, reset=bool(starts_anew), seed=self._seed)
        named = {"token": self._token} if self._token else {"session_id": self._id}
        result = await run_step(sessions, replace(request, **named, return_token=bool(is_last)))
        self._token = result.token if is_last else None
        if is_last:
            sessions.end(self._id)
        return result.action.actions, (window, self._task, self._seed, step)


async def ask_with_history(engine: Engine, adapter: OctoSmallAdapter, world: World) -> tuple[np.ndarray, Asked]:
    """Ask as a robot without a session, which brings what it saw before."""
    length, task, seed = engine.spec.window, world.task(), int(world.random.integers(2))
    history, count = ObservationWindow(length), int(world.random.integers(1, length + 1))
    shown = world.random.integers(count)
    *_, window = [history.append(world.observation(*["primary"][: int(step == shown)])) for step in range(count)]
    prediction = await engine.predict(PolicyRequest(window=window, task=task, seed=seed))
    return un_normalized(adapter, prediction.chunks[0]), (window, task, seed, 0)


def un_normalized(adapter: OctoSmallAdapter, chunk: np.ndarray) -> np.ndarray:
    spec = adapter.spec
    return adapter.postprocess_action(chunk, spec.default_dataset, spec.action_formats[0]).actions


async def answered(adapter: OctoSmallAdapter, config: ServerConfig, num_windows: int) -> list[tuple[np.ndarray, Asked]]:
    """Have robots ask a server's engine and sessions, some of them at once, and return what each got."""
    engine = InProcessEngine(adapter, config, "loaded already")
    engine.start()
    await engine.loaded()
    sessions, world = Sessions(Engines(engine), config), World(0)
    robots = [Robot(number, world, engine.spec.window) for number in range(NUM_ROBOTS)]
    found = []
    while len(found) < num_windows:
        some = world.random.permutation(NUM_ROBOTS)[: world.random.integers(1, 4)]
        asking = [robots[number].act(sessions) for number in some]
        found += await asyncio.gather(*asking, ask_with_history(engine, adapter, world))
    await engine.close()
    return found


def alone(adapter: OctoSmallAdapter, asked: Asked) -> np.ndarray:
    """Return the answer of an adapter that remembers nothing."""
    embed = adapter.model.embed_text
    adapter._inference_cache = InferenceCache(adapter.model.stepwise, lambda tokens: embed(**tokens), PREFILL_MB)
    for kept in (adapter._preprocessor._prepared, adapter._noise._drawn, adapter.model.stepwise._no_goal_features):
        kept.clear()
    (chunks,) = adapter.predict([as_input(adapter, asked)])
    return chunks[0]


def as_input(adapter: OctoSmallAdapter, asked: Asked) -> PolicyInput:
    window, task, seed, step = asked
    observation, told = adapter.preprocess_observation(window), adapter.preprocess_instruction(task)
    return PolicyInput(observation=observation, task=told, seed=seed, step=step)


def test_robots_that_miss_frames_get_what_each_gets_of_a_fresh_policy_bit_for_bit(
    adapter: OctoSmallAdapter, tmp_path: Path, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(adapter, "load_model", lambda *_: None)  # with what is compiled already
    config = ServerConfig(cache_dir=tmp_path, device="cpu")
    num_windows = cast(int, pytestconfig.getoption("windows"))
    for actions, asked in asyncio.run(answered(adapter, config, num_windows // 2)):
        np.testing.assert_array_equal(actions, un_normalized(adapter, alone(adapter, asked)))


def some_windows(length: int, count: int) -> Iterator[Asked]:
    world = World(1)
    for number in range(count):
        seen = [
            world.observation("primary") if step == number % length else world.observation() for step in range(length)
        ]
        mask = np.arange(length) >= number % 2
        yield Window(observations=tuple(seen), timestep_pad_mask=mask), world.task(), number, 0


def as_the_reference_takes_it(window: Window) -> dict:
    """Stack a window; what a timestep lacks is zero there, and masked."""
    nothing: dict[str, np.ndarray] = {
        name: np.zeros((32, 32, 3), np.uint8) for name in ("image_primary", "image_wrist")
    }
    nothing["proprio"] = np.zeros(4, np.float32)
    steps = []
    for seen in window.observations:
        there = {f"image_{name}": resize_lanczos(image, 32, 32) for name, image in seen.images.items()}
        steps.append(there if seen.proprio is None else there | {"proprio": seen.proprio.astype(np.float32)})
    stacked = {name: np.stack([step.get(name, none) for step in steps])[None] for name, none in nothing.items()}
    masks = {name: np.array([[name in step for step in steps]]) for name in nothing}
    return {**stacked, "timestep_pad_mask": window.timestep_pad_mask[None], "pad_mask_dict": masks}


def test_what_a_timestep_lacks_is_masked_as_by_the_reference(adapter: OctoSmallAdapter):
    for window, task, seed, step in some_windows(adapter.spec.window, 24):
        expected = adapter.model.sample_actions(
            as_the_reference_takes_it(window), adapter.preprocess_instruction(task), rng=jax.random.PRNGKey(seed)
        )
        found = alone(adapter, (window, task, seed, step))
        np.testing.assert_allclose(found, expected[0], rtol=0, atol=TOLERANCE)


def test_requests_that_miss_frames_share_a_pass(adapter: OctoSmallAdapter):
    asked = list(some_windows(adapter.spec.window, 8))
    batch = [as_input(adapter, each) for each in asked]
    noises, dims = [adapter._noise.of(each) for each in batch], [adapter.spec.action_dim] * len(batch)
    together = BatchedInference(adapter.model).predict(batch, noises, dims)
    for chunks, each in zip(together, asked, strict=True):
        np.testing.assert_allclose(chunks[0], alone(adapter, each), rtol=0, atol=TOLERANCE)
