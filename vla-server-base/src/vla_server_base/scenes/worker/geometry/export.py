"""A scene in one state as a glTF file."""

from typing import Any

import mujoco
import numpy as np

from vla_server_base.scenes.worker.geometry.bodies import body_node, geom_node
from vla_server_base.scenes.worker.geometry.glb import Buffer, encode_glb
from vla_server_base.scenes.worker.geometry.materials import GltfMaterials
from vla_server_base.scenes.worker.geometry.meshes import Meshes
from vla_server_base.scenes.worker.geometry.scene_extras import scene_extras
from vla_server_base.scenes.worker.geometry.textures import SAMPLERS, Textures
from vla_server_base.scenes.worker.geometry.viewpoints import (
    LIGHTS,
    camera_content,
    camera_node,
    light_content,
    light_node,
)

Nodes = list[dict[str, Any]]

Y_UP = [-float(np.sqrt(0.5)), 0.0, 0.0, float(np.sqrt(0.5))]
"""The rotation (x y z w) that has z, which is up in MuJoCo, along y, which is up in glTF."""


def export_glb(model: mujoco.MjModel, data: mujoco.MjData, groups: tuple[int, ...], scene_id: str) -> bytes:
    """Return the present state of `data` as a glTF file in binary form, with the geoms of some groups.

    The nodes of bodies come first, so that the index of a node is that of its body.

    Raises:
        SceneRefused: the file would be too large.
        SceneError: a number in it is not finite.
    """
    buffer = Buffer()
    textures = Textures(model, buffer)
    materials = GltfMaterials(model, textures)
    meshes = Meshes(model, buffer, materials)
    nodes = [body_node(model, data, body) for body in range(model.nbody)]
    _add_geoms(nodes, model, groups, meshes)
    _add_cameras(nodes, model, data)
    lights = _add_lights(nodes, model, data)
    extras = scene_extras(model, data, scene_id, textures)
    nodes.append({"name": "world", "rotation": Y_UP, "children": list(range(model.nbody))})
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "vla-servers"},
        "extensionsUsed": [LIGHTS] if lights else [],
        "extensions": {LIGHTS: {"lights": lights}} if lights else {},
        "scene": 0,
        "scenes": [{"nodes": [len(nodes) - 1], "extras": extras}],
        "nodes": nodes,
        "cameras": [camera_content(model, camera) for camera in range(model.ncam)],
        "meshes": meshes.meshes,
        "materials": materials.materials,
        "textures": textures.textures,
        "images": textures.images,
        "samplers": SAMPLERS if textures.textures else [],
    }
    return encode_glb(document, buffer)


def _add_geoms(nodes: Nodes, model: mujoco.MjModel, groups: tuple[int, ...], meshes: Meshes) -> None:
    for geom in np.flatnonzero(np.isin(model.geom_group, groups)).tolist():
        if (mesh := meshes.add(geom)) is not None:
            _add_child(nodes, model.geom_bodyid[geom], geom_node(model, geom, mesh))


def _add_cameras(nodes: Nodes, model: mujoco.MjModel, data: mujoco.MjData) -> None:
    for camera in range(model.ncam):
        _add_child(nodes, model.cam_bodyid[camera], {**camera_node(model, data, camera), "camera": camera})


def _add_lights(nodes: Nodes, model: mujoco.MjModel, data: mujoco.MjData) -> list[dict[str, Any]]:
    """Add the lights that are on, and return what they are."""
    lights: list[dict[str, Any]] = []
    for light in range(model.nlight):
        if (content := light_content(model, data, light)) is not None:
            link = {"extensions": {LIGHTS: {"light": len(lights)}}}
            _add_child(nodes, model.light_bodyid[light], {**light_node(model, data, light), **link})
            lights.append(content)
    return lights


def _add_child(nodes: Nodes, body: np.integer, node: dict[str, Any]) -> None:
    nodes[int(body)].setdefault("children", []).append(len(nodes))
    nodes.append(node)
