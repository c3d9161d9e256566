"""Jitter of lights and camera: variants of each scene, few enough for workers to keep them compiled."""

from dataclasses import replace
from functools import lru_cache
from xml.etree import ElementTree

import numpy as np

from vla_server_base.config import ServerConfig
from vla_server_base.scenes.library import bundled_scene
from vla_server_base.scenes.messages import Scene
from vla_server_base.tabletop.tables import rotation

NUM_VARIANTS = 64

LIGHT_SHIFT_M = 0.3
LIGHT_FACTOR = 0.2
"""A light's brightness changes by up to this share, and each of its colours by up to a quarter of it."""
CAMERA_SHIFT_M = 0.03
CAMERA_TURN_RAD = 0.03

SCENE_TIMEOUT_S = 60.0


def with_patience(config: ServerConfig) -> ServerConfig:
    """Return settings with a long timeout: these scenes are trusted, so that only a busy machine makes them slow."""
    return replace(config, scene_timeout_s=max(config.scene_timeout_s, SCENE_TIMEOUT_S))


@lru_cache(maxsize=NUM_VARIANTS + 1)
def scene_variant(robot: str, variant: int | None) -> Scene:
    """Return a robot's tabletop unchanged, for None, or one of its `NUM_VARIANTS` jittered variants.

    Lights are shifted along each axis, brightened or dimmed and tinted; the camera `primary` is shifted along and
    rotated about each of its axes; all uniformly within the bounds above. The wrist camera moves with the arm.
    """
    xml = bundled_scene(robot, "tabletop")
    if variant is None:
        return Scene(xml=xml)
    random = np.random.default_rng(variant % NUM_VARIANTS)
    root = ElementTree.fromstring(xml)
    for light in root.iter("light"):
        _shift(light, LIGHT_SHIFT_M, random)
        _tint(light, "diffuse", random)
    for headlight in root.iter("headlight"):
        _tint(headlight, "ambient", random)
        _tint(headlight, "diffuse", random)
    for camera in root.iter("camera"):
        if camera.get("name") == "primary":
            _shift(camera, CAMERA_SHIFT_M, random)
            _rotate(camera, random)
    return Scene(xml=ElementTree.tostring(root, encoding="unicode"))


def _shift(element: ElementTree.Element, bound: float, random: np.random.Generator) -> None:
    _write(element, "pos", _numbers(element, "pos") + random.uniform(-bound, bound, 3))


def _tint(element: ElementTree.Element, name: str, random: np.random.Generator) -> None:
    brightness = 1 + random.uniform(-LIGHT_FACTOR, LIGHT_FACTOR)
    tint = 1 + random.uniform(-LIGHT_FACTOR, LIGHT_FACTOR, 3) / 4
    _write(element, name, np.clip(_numbers(element, name) * brightness * tint, 0, 1))


def _rotate(camera: ElementTree.Element, random: np.random.Generator) -> None:
    x, y = _numbers(camera, "xyaxes").reshape(2, 3)
    axes = np.stack([x, y, np.cross(x, y)], axis=1)
    half_turns = random.uniform(-CAMERA_TURN_RAD, CAMERA_TURN_RAD, 3) / 2
    quaternion = np.array([1.0, *half_turns])
    turned = axes @ rotation(quaternion / np.linalg.norm(quaternion))
    _write(camera, "xyaxes", turned[:, :2].T.ravel())


def _numbers(element: ElementTree.Element, name: str) -> np.ndarray:
    return np.array(element.attrib[name].split(), float)


def _write(element: ElementTree.Element, name: str, numbers: np.ndarray) -> None:
    element.set(name, " ".join(f"{number:.6g}" for number in numbers))
