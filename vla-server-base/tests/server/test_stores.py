"""What was sent before: held by its hash, the least recently used first to go."""

import hashlib

import pytest

from vla_server_base.errors import AssetMismatch, MissingAsset, UnknownSceneId
from vla_server_base.scenes import content_stores as stores
from vla_server_base.scenes.content_stores import AssetStore, GeometryStore, SceneStore
from vla_server_base.scenes.messages import Scene


def put(store: AssetStore, content: bytes) -> str:
    sha256 = hashlib.sha256(content).hexdigest()
    store.put(sha256, content)
    return sha256


def test_an_asset_is_new_once_and_then_held():
    store, sha256 = AssetStore(100), hashlib.sha256(b"mesh").hexdigest()
    assert sha256 not in store
    assert [store.put(sha256, b"mesh"), store.put(sha256, b"mesh")] == [True, False]
    assert sha256 in store
    assert store.get(sha256, "a.obj") == b"mesh"


def test_bytes_under_another_hash_are_refused_with_their_own():
    sha256 = hashlib.sha256(b"mesh").hexdigest()
    with pytest.raises(AssetMismatch, match=hashlib.sha256(b"other").hexdigest()):
        AssetStore(100).put(sha256, b"other")


def test_the_least_recently_used_asset_makes_room():
    store = AssetStore(100)
    first, second = put(store, b"1" * 40), put(store, b"2" * 40)
    store.get(first, "a.obj")
    third = put(store, b"3" * 40)
    assert [sha256 in store for sha256 in (first, second, third)] == [True, False, True]
    with pytest.raises(MissingAsset, match=r"'b\.obj'") as caught:
        store.get(second, "b.obj")
    assert f"PUT /assets/{second}" in caught.value.hint


def test_what_is_larger_than_the_store_costs_the_others_nothing():
    store = AssetStore(100)
    small, large = put(store, b"1" * 90), put(store, b"2" * 101)
    assert [small in store, large in store] == [True, False]


def test_a_scene_is_known_by_its_key_and_counted_with_its_files():
    store = SceneStore(100)
    scenes = [Scene(xml=f"<{number}>", assets={"a.obj": bytes(40)}) for number in range(3)]
    for scene in scenes:
        store.put(scene)
    assert store.get(scenes[2].key) is scenes[2]
    with pytest.raises(UnknownSceneId) as caught:
        store.get(scenes[0].key)
    assert "send the scene again" in caught.value.hint


def test_the_number_of_small_scenes_is_bounded_too(monkeypatch):
    monkeypatch.setattr(stores, "MAX_ITEMS", 3)
    store, scenes = SceneStore(10**9), [Scene(xml=str(number)) for number in range(4)]
    for scene in scenes:
        store.put(scene)
    with pytest.raises(UnknownSceneId):
        store.get(scenes[0].key)
    assert store.get(scenes[1].key) is scenes[1]


def test_a_geometry_is_kept_for_each_choice_of_groups_within_the_limit():
    store = GeometryStore(100)
    store.put("scene", None, b"1" * 40)
    store.put("scene", (0, 1), b"2" * 40)
    assert (store.get("scene", None), store.get("scene", (0, 1))) == (b"1" * 40, b"2" * 40)
    assert store.get("scene", (0,)) is None
    store.put("other", None, b"3" * 40)
    assert store.get("scene", None) is None
    store.put("large", None, b"4" * 101)
    assert store.get("large", None) is None
