"""What textures make of a scene's geoms."""
# pyright: reportAttributeAccessIssue=false
# (mujoco's names are in compiled modules, which pyright cannot read)

from dataclasses import dataclass
from typing import final

import mujoco
import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int

from vla_server_base.scenes.texture_mapping import (
    CAPSULE,
    CYLINDER,
    ELLIPSOID,
    HFIELD,
    PLANE,
    SPHERE,
    cube_coordinates,
    cube_faces,
    drawn_sizes,
    surface_coordinates,
    surface_faces,
    unit_points,
)
from vla_server_base.scenes.textures import CUBE_FACES, Texture, read_texture

Vectors = Float[np.ndarray, "xyz points"]
Colours = Float32[np.ndarray, "rgb points"]
Geoms = Int[np.ndarray, " points"]

PROJECTED = {int(kind) for kind in (mujoco.mjtGeom.mjGEOM_MESH, mujoco.mjtGeom.mjGEOM_SDF)} | {HFIELD}
"""Types of geoms whose 2-D textures are seen from above, as if there were no other side."""
ROUND = {SPHERE, ELLIPSOID, CAPSULE, CYLINDER}


@dataclass(frozen=True, kw_only=True)
class Spots:
    """Where pixels meet the scene, and how far it is from there to where the next pixels do, along row and column."""

    points: Float64[np.ndarray, "xyz points"]
    along_row: Float64[np.ndarray, "xyz points"]
    along_column: Float64[np.ndarray, "xyz points"]

    def take(self, which: Int[np.ndarray, " some"]) -> "Spots":
        """Return some of them."""
        return Spots(
            points=self.points[:, which],
            along_row=self.along_row[:, which],
            along_column=self.along_column[:, which],
        )

    def beside(self) -> tuple[Vectors, Vectors, Vectors]:
        """Return the points, those of the next pixels in their rows, and those in their columns."""
        return self.points, self.points + self.along_row, self.points + self.along_column


@final
class Texturing:
    """The textures of a model's geoms, each read when it is first seen."""

    def __init__(self, model: mujoco.MjModel):
        self._model = model
        self._textures: dict[int, Texture | None] = {}
        self._ids = _texture_ids(model)
        # Geoms of one type with one texture are coloured together.
        self._looks = np.unique(np.stack([self._ids, model.geom_type]), axis=1, return_inverse=True)[1].reshape(-1)
        materials = np.maximum(model.geom_matid, 0)
        with_materials = model.nmat > 0
        self._repeats = model.mat_texrepeat[materials].T if with_materials else np.ones((2, model.ngeom), np.float32)
        uniform = model.mat_texuniform[materials] if with_materials else np.zeros(model.ngeom)
        self._uniform: Bool[np.ndarray, " geoms"] = np.asarray(uniform, bool)
        self._sizes = drawn_sizes(model.geom_type, model.geom_size)

    def colours(self, data: mujoco.MjData, geoms: Geoms, spots: Spots) -> tuple[Int[np.ndarray, " some"], Colours]:
        """Return which of the points on geoms have a texture, and what it multiplies their colours by."""
        textured = np.flatnonzero(self._ids[geoms] >= 0)
        colours = np.ones((3, len(textured)), np.float32)
        looks = self._looks[geoms[textured]]
        for look in np.flatnonzero(np.bincount(looks)).tolist():
            alike = np.flatnonzero(looks == look)
            of = geoms[textured[alike]]
            texture = self._read(int(self._ids[of[0]]))
            if texture is not None:
                beside = spots.take(textured[alike]).beside()
                places = [self._in_frame(data, of, points) for points in beside]
                colours[:, alike] = self._sample(texture, int(self._model.geom_type[of[0]]), of, places)
        return textured, colours

    def _read(self, texture: int) -> Texture | None:
        if texture not in self._textures:
            self._textures[texture] = read_texture(self._model, texture)
        return self._textures[texture]

    def _in_frame(self, data: mujoco.MjData, geoms: Geoms, points: Vectors) -> Float32[np.ndarray, "xyz points"]:
        offset = points - data.geom_xpos[geoms].T
        turns = data.geom_xmat[geoms].T
        return np.stack(
            [offset[0] * turns[i] + offset[1] * turns[3 + i] + offset[2] * turns[6 + i] for i in range(3)]
        ).astype(np.float32)

    def _sample(self, texture: Texture, kind: int, geoms: Geoms, places: list[Vectors]) -> Colours:
        sizes = self._sizes.take(geoms, axis=1)
        if texture.num_images == CUBE_FACES:
            units = [unit_points(kind, points, sizes) for points in places]
            return sample_cube(texture, [np.where(self._uniform[geoms], unit * sizes, unit) for unit in units])
        scale = np.array(self._repeats.take(geoms, axis=1))
        has_size = sizes[:2] > 0
        if kind in PROJECTED:
            scale = np.where(has_size & ~self._uniform[geoms], scale / np.maximum(sizes[:2], 1e-9), scale)
            uv = [np.stack([scale[0] * x, -scale[1] * y]) / 2 - np.float32(0.5) for x, y, _ in places]
        else:
            scale = np.where(scale > 0, scale, 1)
            scale = np.where(has_size & self._uniform[geoms], scale * sizes[:2], scale)
            faces = surface_faces(kind, places[0], sizes)
            uv = [surface_coordinates(kind, points, sizes, faces) for points in places]
            if kind in ROUND:
                # The next pixel may lie on the other side of the seam.
                for beside in uv[1:]:
                    beside[0] -= np.round(beside[0] - uv[0][0])
            endless = (kind == PLANE) & ~has_size.all(axis=0)
            uv = [along * scale - np.float32(0.5) * endless for along in uv]
        return texture.sample(uv[0].astype(np.float32), *(_difference(uv[0], beside) for beside in uv[1:]))


def sample_cube(texture: Texture, directions: list[Vectors]) -> Colours:
    """Return the colours in directions, given with those of the next pixels along row and column."""
    faces = cube_faces(directions[0])
    uv = [cube_coordinates(beside.astype(np.float32), faces) for beside in directions]
    return texture.sample(uv[0], *(_difference(uv[0], beside) for beside in uv[1:]), faces)


def _texture_ids(model: mujoco.MjModel) -> Int[np.ndarray, " geoms"]:
    ids = np.full(model.ngeom, -1)
    with_material = np.flatnonzero(model.geom_matid >= 0)
    ids[with_material] = model.mat_texid[model.geom_matid[with_material], mujoco.mjtTextureRole.mjTEXROLE_RGB]
    return ids


def _difference(one: np.ndarray, other: np.ndarray) -> Float32[np.ndarray, "uv points"]:
    return (other - one).astype(np.float32)
