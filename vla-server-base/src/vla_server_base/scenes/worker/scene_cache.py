"""The compiled scenes that a worker keeps, the most recently used ones."""

from collections import OrderedDict
from dataclasses import dataclass

import mujoco

from vla_server_base.scenes.worker.rendering.renderer import Drawing
from vla_server_base.scenes.worker.simulation.rollout import Simulation

MAX_SCENES = 8
MAX_MODEL_BYTES = 512_000_000
"""Of compiled models; the renderer holds about as much again."""


@dataclass(frozen=True, kw_only=True)
class CachedScene:
    """A compiled scene, its simulation, and how it is drawn; `num_bytes` of model and simulation."""

    model: mujoco.MjModel
    data: mujoco.MjData
    simulation: Simulation
    drawing: Drawing
    geom_groups: tuple[int, ...]
    num_bytes: int


class SceneCache:
    """Compiled scenes by key. The least recently used ones are freed, but never the last scene added.

    cachetools' LRUCache would refuse a scene over the limit, and does not free what the renderer holds of one.
    """

    def __init__(self, max_bytes: int):
        self._max_bytes = max_bytes
        self._scenes: OrderedDict[str, CachedScene] = OrderedDict()

    @property
    def keys(self) -> frozenset[str]:
        return frozenset(self._scenes)

    def get(self, key: str) -> CachedScene | None:
        if key not in self._scenes:
            return None
        self._scenes.move_to_end(key)
        return self._scenes[key]

    def add(self, key: str, scene: CachedScene) -> None:
        """Keep a scene; free others while they take too much."""
        self._scenes[key] = scene
        while len(self._scenes) > 1 and self._is_over_limit():
            self.free(next(iter(self._scenes)))

    def free(self, key: str) -> None:
        """Free one scene."""
        self._scenes.pop(key).drawing.free()

    def free_others(self, key: str) -> bool:
        """Free all scenes but this one, and return whether there were any."""
        others = self._scenes.keys() - {key}
        for other in others:
            self.free(other)
        return bool(others)

    def _is_over_limit(self) -> bool:
        model_bytes = sum(mujoco.mj_sizeModel(scene.model) for scene in self._scenes.values())
        num_bytes = sum(scene.num_bytes for scene in self._scenes.values())
        return len(self._scenes) > MAX_SCENES or model_bytes > MAX_MODEL_BYTES or num_bytes > self._max_bytes
