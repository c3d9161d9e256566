"""A scene's cameras and lights as nodes of a glTF file, below the nodes of their bodies."""

from typing import Any

import mujoco
import numpy as np

from vla_server_base.scenes.worker.geometry.numbers import number, numbers, pose

LIGHTS = "KHR_lights_punctual"
LIGHT_TYPES = {
    int(mujoco.mjtLightType.mjLIGHT_SPOT): "spot",
    int(mujoco.mjtLightType.mjLIGHT_DIRECTIONAL): "directional",
    int(mujoco.mjtLightType.mjLIGHT_POINT): "point",
}
WIDEST_CONE = np.pi / 2
NARROWEST_FALLOFF = 1e-3


def camera_content(model: mujoco.MjModel, camera: int) -> dict[str, Any]:
    """Return a camera's lens."""
    extent, planes = float(model.stat.extent), model.vis.map
    clipping = {"znear": number(planes.znear * extent), "zfar": number(planes.zfar * extent)}
    if model.cam_projection[camera] == mujoco.mjtProjection.mjPROJ_ORTHOGRAPHIC:
        half = number(model.cam_fovy[camera] / 2)
        return {"type": "orthographic", "orthographic": {"xmag": half, "ymag": half, **clipping}}
    lens = {"yfov": number(_field_of_view(model, camera)), **clipping}
    width, height = model.cam_resolution[camera].tolist()
    if (width, height) != (1, 1):
        lens["aspectRatio"] = number(width / height)
    return {"type": "perspective", "perspective": lens}


def camera_node(model: mujoco.MjModel, data: mujoco.MjData, camera: int) -> dict[str, Any]:
    """Return the node of a camera, which looks along its -z, as in glTF."""
    name = model.cam(camera).name
    body = int(model.cam_bodyid[camera])
    return {
        "name": name or f"camera_{camera}",
        **_pose_in_body(data, body, data.cam_xpos[camera], data.cam_xmat[camera].reshape(3, 3)),
        "extras": {"camera": camera, "name": name},
    }


def light_content(model: mujoco.MjModel, data: mujoco.MjData, light: int) -> dict[str, Any] | None:
    """Return a light's colour and strength; None for one that is off or of a type that glTF lacks.

    MuJoCo's lights do not fade unless they say so: the strength is that which has MuJoCo's brightness at the centre of
    the scene.
    """
    kind = LIGHT_TYPES.get(int(model.light_type[light]))
    if kind is None or not model.light_active[light]:
        return None
    diffuse = np.clip(model.light_diffuse[light].astype(float), 0, None)
    strength = float(diffuse.max())
    away = 1.0 if kind == "directional" else float(np.linalg.norm(data.light_xpos[light] - model.stat.center))
    content: dict[str, Any] = {
        "type": kind,
        "color": numbers(diffuse / strength) if strength else [1.0, 1.0, 1.0],
        "intensity": number(np.pi * strength * max(away, 1e-3) ** 2),
    }
    if kind == "spot":
        outer = min(max(float(np.deg2rad(model.light_cutoff[light])), NARROWEST_FALLOFF), WIDEST_CONE)
        # The higher the exponent, the earlier the light fades from its middle on.
        inner = min(outer / (1 + max(float(model.light_exponent[light]), 0)), (1 - NARROWEST_FALLOFF) * outer)
        content["spot"] = {"innerConeAngle": number(inner), "outerConeAngle": min(number(outer), WIDEST_CONE)}
    return content


def light_node(model: mujoco.MjModel, data: mujoco.MjData, light: int) -> dict[str, Any]:
    """Return the node of a light, which shines along its -z, with MuJoCo's own numbers."""
    name = model.light(light).name
    body = int(model.light_bodyid[light])
    return {
        "name": name or f"light_{light}",
        **_pose_in_body(data, body, data.light_xpos[light], _turned_to(data.light_xdir[light])),
        "extras": {
            "light": light,
            "name": name,
            "castshadow": bool(model.light_castshadow[light]),
            "ambient": numbers(model.light_ambient[light]),
            "diffuse": numbers(model.light_diffuse[light]),
            "specular": numbers(model.light_specular[light]),
            "attenuation": numbers(model.light_attenuation[light]),
            "cutoff": number(model.light_cutoff[light]),
            "exponent": number(model.light_exponent[light]),
        },
    }


def _field_of_view(model: mujoco.MjModel, camera: int) -> float:
    """Return the vertical angle of a camera [rad], of a lens or of a sensor and its focal length."""
    sensor, focal = float(model.cam_sensorsize[camera, 1]), float(model.cam_intrinsic[camera, 1])
    if sensor > 0 and focal > 0:
        return 2 * float(np.arctan(sensor / 2 / focal))
    return float(np.deg2rad(model.cam_fovy[camera]))


def _pose_in_body(data: mujoco.MjData, body: int, position: np.ndarray, turn: np.ndarray) -> dict[str, list[float]]:
    """Return a pose, given in the world's frame, in a body's: cameras and lights may follow other bodies."""
    axes = data.xmat[body].reshape(3, 3)
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(axes.T @ turn, np.float64).reshape(-1))
    return pose(axes.T @ (position - data.xpos[body]), quaternion)


def _turned_to(direction: np.ndarray) -> np.ndarray:
    """Return axes whose -z is a direction."""
    z = -direction / np.linalg.norm(direction)
    aside = np.array([1.0, 0.0, 0.0]) if abs(z[0]) < 0.9 else np.array([0.0, 1.0, 0.0])
    x = np.cross(aside, z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], axis=1)
