"""Jittered scenes differ from the bundled one in lights and camera only, within bounds."""

from xml.etree import ElementTree

import numpy as np
import pytest

from vla_server_base.config import ServerConfig
from vla_server_base.scenes.library import bundled_scene
from vla_server_base.tabletop.tables import TABLES
from vla_server_base.tabletop.variants import (
    CAMERA_SHIFT_M,
    CAMERA_TURN_RAD,
    LIGHT_FACTOR,
    LIGHT_SHIFT_M,
    NUM_VARIANTS,
    SCENE_TIMEOUT_S,
    scene_variant,
    with_patience,
)

JITTERED = {"light": ("pos", "diffuse"), "headlight": ("ambient", "diffuse"), "camera": ("pos", "xyaxes")}


def elements(robot: str, variant: int | None) -> list[tuple[str, dict[str, str]]]:
    root = ElementTree.fromstring(scene_variant(robot, variant).xml)
    return [(element.tag, dict(element.attrib)) for element in root.iter()]


def numbers(text: str) -> np.ndarray:
    return np.array(text.split(), float)


@pytest.mark.parametrize("robot", TABLES)
def test_without_a_variant_the_scene_is_the_bundled_one(robot):
    assert scene_variant(robot, None).xml == bundled_scene(robot, "tabletop")


@pytest.mark.parametrize("robot", TABLES)
@pytest.mark.parametrize("variant", [0, 7, NUM_VARIANTS - 1])
def test_a_variant_changes_lights_and_the_primary_camera_only(robot, variant):
    pairs = list(zip(elements(robot, None), elements(robot, variant), strict=True))
    changed = [(tag, before, after) for (tag, before), (_, after) in pairs if before != after]
    assert {tag for tag, _, _ in changed} >= {"light", "camera"}
    for tag, before, after in changed:
        assert {name for name in before if before[name] != after[name]} <= set(JITTERED[tag])
        assert tag != "camera" or before["name"] == "primary"


@pytest.mark.parametrize("variant", range(0, NUM_VARIANTS, 9))
def test_the_jitter_keeps_its_bounds(variant):
    for (tag, before), (_, after) in zip(elements("panda", None), elements("panda", variant), strict=True):
        bound = {"light": LIGHT_SHIFT_M, "camera": CAMERA_SHIFT_M}.get(tag)
        if bound is not None and "pos" in before:
            assert np.abs(numbers(after["pos"]) - numbers(before["pos"])).max() <= bound + 1e-5
        for name in set(before) & {"ambient", "diffuse"}:
            old, new = numbers(before[name]), numbers(after[name])
            assert (new <= np.clip(old * (1 + LIGHT_FACTOR) * 1.05, 0, 1) + 1e-5).all()
            assert (new >= old * (1 - LIGHT_FACTOR) * 0.95 - 1e-5).all()
        if tag == "camera" and before["name"] == "primary":
            x, y = numbers(after["xyaxes"]).reshape(2, 3)
            x_before, y_before = numbers(before["xyaxes"]).reshape(2, 3)
            assert np.dot(x, y) == pytest.approx(0, abs=1e-3)  # The bundled axes are rounded.
            cosine = np.cos(np.sqrt(3) * CAMERA_TURN_RAD)
            for axis, old in ((x, x_before), (y, y_before)):
                assert np.dot(axis, old) / np.linalg.norm(axis) / np.linalg.norm(old) >= cosine - 1e-3


def test_variants_repeat_and_differ():
    assert scene_variant("panda", 3).xml == scene_variant("panda", 3 + NUM_VARIANTS).xml
    assert len({scene_variant("panda", variant).xml for variant in range(NUM_VARIANTS)}) == NUM_VARIANTS


def test_patience_only_lengthens_the_timeout():
    assert with_patience(ServerConfig(scene_timeout_s=1.0)).scene_timeout_s == SCENE_TIMEOUT_S
    assert with_patience(ServerConfig(scene_timeout_s=300.0)).scene_timeout_s == 300.0
