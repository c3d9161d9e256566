"""A scene's bodies and geoms as nodes of a glTF file."""

from typing import Any

import mujoco
import numpy as np

from vla_server_base.scenes.worker.geometry.meshes import PlacedMesh
from vla_server_base.scenes.worker.geometry.numbers import numbers, pose
from vla_server_base.scenes.worker.rendering.raycast.texture_mapping import PLANE

FREE = mujoco.mjtJoint.mjJNT_FREE


def body_node(model: mujoco.MjModel, data: mujoco.MjData, body: int) -> dict[str, Any]:
    """Return the node of a body, at its place in the world."""
    extras: dict[str, Any] = {
        "body": body,
        "parent": int(model.body_parentid[body]),
        "free": False,
        "static": bool(model.body_weldid[body] == 0),
    }
    first = int(model.body_jntadr[body])
    if first >= 0 and model.jnt_type[first] == FREE:
        extras |= {"free": True, "qpos": int(model.jnt_qposadr[first])}
    return {
        "name": model.body(body).name or f"body_{body}",
        **pose(data.xpos[body], data.xquat[body]),
        "extras": extras,
    }


def geom_node(model: mujoco.MjModel, geom: int, mesh: PlacedMesh) -> dict[str, Any]:
    """Return the node of a geom, at its place in its body."""
    name = model.geom(geom).name
    extras: dict[str, Any] = {"geom": geom, "name": name, "group": int(model.geom_group[geom])}
    if model.geom_type[geom] == PLANE and not model.geom_size[geom, :2].all():
        extras["infinite"] = True
    node = {
        "name": name or f"geom_{geom}",
        "mesh": mesh.index,
        **pose(model.geom_pos[geom], model.geom_quat[geom]),
        "extras": extras,
    }
    return node if np.all(mesh.scale == 1) else {**node, "scale": numbers(mesh.scale)}
