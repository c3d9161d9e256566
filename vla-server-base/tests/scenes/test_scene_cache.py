"""Compiled scenes are kept, the most recently used ones, and what the renderer holds of the others is freed."""

import mujoco
import pytest

from vla_server_base.scenes.worker import scene_cache
from vla_server_base.scenes.worker.rendering.raycasting import RayCasting
from vla_server_base.scenes.worker.rendering.renderer import Drawing
from vla_server_base.scenes.worker.scene_cache import CachedScene, SceneCache
from vla_server_base.scenes.worker.simulation.rollout import Simulation

MODEL = "<mujoco><worldbody><geom size='1'/></worldbody></mujoco>"


class CountedDrawing(Drawing):
    """A ray caster's drawing that notes when it is freed."""

    def __init__(self, drawing: Drawing, freed: list[str], key: str):
        self._drawing, self._freed, self._key = drawing, freed, key

    def draw(self, *args, **kwargs):
        return self._drawing.draw(*args, **kwargs)

    def free(self) -> None:
        self._freed.append(self._key)


@pytest.fixture
def freed() -> list[str]:
    return []


def scene(key: str, freed: list[str], num_bytes: int = 1) -> CachedScene:
    model = mujoco.MjModel.from_xml_string(MODEL)
    data = mujoco.MjData(model)
    return CachedScene(
        model=model,
        data=data,
        simulation=Simulation(model, data),
        drawing=CountedDrawing(RayCasting().prepare(model), freed, key),
        geom_groups=(0, 1, 2),
        num_bytes=num_bytes,
    )


def test_the_least_recently_used_scene_is_freed_first(freed):
    cache = SceneCache(max_bytes=3)
    for key in "abc":
        cache.add(key, scene(key, freed))
    assert cache.get("a") is not None
    cache.add("d", scene("d", freed))
    assert freed == ["b"]
    assert cache.keys == {"a", "c", "d"}
    assert cache.get("b") is None


def test_a_scene_that_is_larger_than_the_cache_stays_until_the_next(freed):
    cache = SceneCache(max_bytes=3)
    cache.add("a", scene("a", freed))
    cache.add("large", scene("large", freed, num_bytes=4))
    assert cache.keys == {"large"}
    cache.add("b", scene("b", freed))
    assert freed == ["a", "large"]


def test_the_number_of_scenes_is_bounded(freed, monkeypatch):
    monkeypatch.setattr(scene_cache, "MAX_SCENES", 2)
    cache = SceneCache(max_bytes=100)
    for key in "abc":
        cache.add(key, scene(key, freed))
    assert freed == ["a"]


def test_the_bytes_of_models_are_bounded_too(freed, monkeypatch):
    monkeypatch.setattr(scene_cache, "MAX_MODEL_BYTES", 1)
    cache = SceneCache(max_bytes=100)
    for key in "ab":
        cache.add(key, scene(key, freed))
    assert cache.keys == {"b"}


def test_all_others_make_room_and_it_is_said_whether_there_were_any(freed):
    cache = SceneCache(max_bytes=9)
    for key in "abc":
        cache.add(key, scene(key, freed))
    assert cache.free_others("b")
    assert sorted(freed) == ["a", "c"]
    assert not cache.free_others("b")
    cache.free("b")
    assert cache.keys == frozenset()
