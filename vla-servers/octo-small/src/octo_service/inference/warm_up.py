"""Blank episodes that make a policy compile its programs: the usual ones before it serves, the rare ones after."""

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace

import numpy as np

from vla_server_base.contract import Observation, PolicyArrays, PolicyInput, PolicySpec, PreviousChunk, Task, Window
from vla_server_base.sessions.action_chunking import ObservationWindow

# The cameras that a timestep shows, and how many numbers its proprio has.
Shown = tuple[tuple[str, ...], int | None]


class WarmUp:
    """Makes inputs that show every subset of a policy's cameras and proprio; `preprocess` prepares a window."""

    def __init__(self, spec: PolicySpec, task: PolicyArrays, preprocess: Callable[[Window], PolicyArrays]):
        self._spec, self._task, self._preprocess = spec, task, preprocess

    def usual(self) -> Iterator[PolicyInput]:
        """Show the first camera alone, and everything, until the window is full."""
        for shown in self._usually_shown:
            yield from self._blank_episode([shown] * self._spec.window)

    def rare(self) -> Iterator[PolicyInput]:
        """Show what robots miss in one timestep, then the rare subsets throughout; then several samples, and RTC."""
        cameras, rest = self._spec.camera_names, [self._all_inputs] * (self._spec.window - 1)
        subsets = [[name for i, name in enumerate(cameras) if bits >> i & 1] for bits in range(1, 2 ** len(cameras))]
        sets = list(itertools.product(map(tuple, subsets), dict.fromkeys([self._spec.proprio_dim, None])))
        for shown in [shown for shown in sets[::-1] if shown != self._all_inputs]:
            yield from self._blank_episode([*rest, shown, *rest])
        for shown in [shown for shown in sets if shown not in self._usually_shown]:
            yield from self._blank_episode([shown] * self._spec.window)
        yield replace(self.first(), num_samples=2)
        if self._spec.supports_rtc:
            yield self.continuing()

    def first(self) -> PolicyInput:
        """Show everything in the first timestep of an episode."""
        return next(self._blank_episode([self._all_inputs]))

    def continuing(self) -> PolicyInput:
        """Continue a chunk of zeros."""
        actions = np.zeros((self._spec.horizon, self._spec.action_dim), np.float32)
        previous = PreviousChunk(actions=actions, inference_delay=1, execution_horizon=1)
        return replace(self.first(), previous=previous)

    @property
    def _all_inputs(self) -> Shown:
        return self._spec.camera_names, self._spec.proprio_dim

    @property
    def _usually_shown(self) -> Collection[Shown]:
        return dict.fromkeys([(self._spec.camera_names[:1], None), self._all_inputs])

    def _blank_episode(self, steps: Iterable[Shown]) -> Iterator[PolicyInput]:
        history = ObservationWindow(self._spec.window)
        for step, (cameras, proprio_dim) in enumerate(steps):
            images = {name: np.zeros((224, 224, 3), np.uint8) for name in cameras}
            proprio = None if proprio_dim is None else np.zeros(proprio_dim, np.float32)
            window = history.append(Observation(images=images, proprio=proprio))
            yield PolicyInput(observation=self._preprocess(window), task=self._task, seed=0, step=step)


def blank_task() -> Task:
    """Return a task whose instruction has no word, which a vocabulary might lack."""
    return Task(instruction=".")
