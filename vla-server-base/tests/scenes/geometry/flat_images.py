"""Images without light and shadow: a glTF file by a ray caster of its own, and MuJoCo's model of the same colours."""

import mujoco
import numpy as np
from glb_file import GlbFile, matrix, placed

from vla_server_base.scenes.worker.rendering.raycasting import RayCasting

SIDE = 72


def as_mujoco(model: mujoco.MjModel, data: mujoco.MjData, groups: tuple[int, ...]) -> np.ndarray:
    """The image of a scene's first camera by MuJoCo's rules, every colour as its material has it."""
    model.light_active[:] = 0
    model.vis.headlight.ambient[:], model.vis.headlight.diffuse[:], model.vis.headlight.specular[:] = 1, 0, 0
    model.mat_emission[:] = 0
    return RayCasting().prepare(model).draw(data, 0, SIDE, SIDE, groups)


def as_gltf(file: GlbFile, colour_of_nothing=(0, 0, 0)) -> np.ndarray:
    """The image of a file's first camera, every colour as its material has it; the nearest surface counts."""
    body, camera = file.all("camera")[0]
    origin, turn = placed(body, camera)
    ray = np.tan(file.document["cameras"][camera["camera"]]["perspective"]["yfov"] / 2)
    across, up = np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5)
    rays = np.stack([ray * (2 * across / SIDE - 1), ray * (1 - 2 * up / SIDE), -np.ones((SIDE, SIDE))], axis=-1)
    rays = rays.reshape(-1, 3) @ turn.T
    nearest = np.full(len(rays), np.inf)
    colours = np.broadcast_to(np.array(colour_of_nothing, float), (len(rays), 3)).copy()
    for body, node in file.all("geom").values():
        distances, faces, weights = hits(file, body, node, origin, rays)
        nearer = np.flatnonzero(distances < nearest)
        nearest[nearer] = distances[nearer]
        colours[nearer] = seen(file, node, faces[nearer], weights[nearer])
    return np.clip(255 * colours, 0, 255).round().astype(np.uint8).reshape(SIDE, SIDE, 3)


def hits(file: GlbFile, body: dict, node: dict, origin: np.ndarray, rays: np.ndarray):
    """How far each ray goes to the front of a geom's faces, to which, and how much its corners count there."""
    corners = file.triangles(node) @ matrix(body["rotation"]).T + body["translation"]
    distances, faces = np.full(len(rays), np.inf), np.zeros(len(rays), int)
    weights = np.zeros((len(rays), 3))
    for number, (a, b, c) in enumerate(corners):
        normal = np.cross(b - a, c - a)
        towards = rays @ normal
        with np.errstate(all="ignore"):
            away = (a - origin) @ normal / towards
            points = origin + away[:, None] * rays - a
            of_b = np.cross(points, c - a) @ normal / (normal @ normal)
            of_c = np.cross(b - a, points) @ normal / (normal @ normal)
        inside = (towards < 0) & (away > 0) & (away < distances)
        inside &= (of_b >= -1e-9) & (of_c >= -1e-9) & (of_b + of_c <= 1 + 1e-9)
        distances[inside], faces[inside] = away[inside], number
        weights[inside] = np.stack([1 - of_b - of_c, of_b, of_c], axis=1)[inside]
    return distances, faces, weights


def seen(file: GlbFile, node: dict, faces: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The colours of points of a geom, as a screen shows them."""
    base = file.material(node)["pbrMetallicRoughness"]
    factor = np.array(base["baseColorFactor"][:3])
    factor = np.where(factor <= 0.0031308, 12.92 * factor, 1.055 * factor ** (1 / 2.4) - 0.055)
    if "baseColorTexture" not in base:
        return np.broadcast_to(factor, (len(faces), 3))
    texture = base["baseColorTexture"]["index"]
    coordinates = file.attribute(node, "TEXCOORD_0")[file.faces(node)[faces]].astype(float)
    u, v = np.einsum("pcu,pc->up", coordinates, weights)
    image, repeats = file.image(texture).astype(float) / 255, file.sampler(texture)["wrapS"] == 10497
    return factor * bilinear(image, u, v, repeats)


def bilinear(image: np.ndarray, u: np.ndarray, v: np.ndarray, repeats: bool) -> np.ndarray:
    height, width = image.shape[:2]
    x, y = u * width - 0.5, v * height - 0.5
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    share = np.zeros((len(u), 3))
    for column, row in ((0, 0), (1, 0), (0, 1), (1, 1)):
        weight = np.abs(1 - column - (x - left)) * np.abs(1 - row - (y - top))
        at_x, at_y = left + column, top + row
        at_x, at_y = (at_x % width, at_y % height) if repeats else (at_x.clip(0, width - 1), at_y.clip(0, height - 1))
        share += weight[:, None] * image[at_y, at_x]
    return share
