"""What textures make of a scene's geoms."""

from collections.abc import Sequence
from typing import final

import mujoco
import numpy as np
from jaxtyping import Bool, Float32, Int

from vla_server_base.scenes.worker.rendering.raycast.mesh_faces import FaceSpots, corner_weights, texture_coordinates
from vla_server_base.scenes.worker.rendering.raycast.spots import Spots, Vectors
from vla_server_base.scenes.worker.rendering.raycast.texture_mapping import (
    CAPSULE,
    CYLINDER,
    ELLIPSOID,
    HFIELD,
    MESH,
    PLANE,
    SDF,
    SPHERE,
    cube_coordinates,
    cube_faces,
    drawn_sizes,
    surface_coordinates,
    surface_faces,
    unit_points,
)
from vla_server_base.scenes.worker.rendering.raycast.textures import CUBE_FACES, Texture, read_texture

Places = tuple[Vectors, Vectors, Vectors]
Coordinates = Float32[np.ndarray, "uv points"]
Colours = Float32[np.ndarray, "rgb points"]
Geoms = Int[np.ndarray, " points"]

PROJECTED = {HFIELD, MESH, SDF}
"""Types of geoms that 2-D textures are laid on from above, unless they have texture coordinates."""
ROUND = {SPHERE, ELLIPSOID, CAPSULE, CYLINDER}


@final
class Texturing:
    """The textures of a model's geoms, each read when it is first seen."""

    def __init__(self, model: mujoco.MjModel):
        self._model = model
        self._textures: dict[int, Texture | None] = {}
        self._ids = _texture_ids(model)
        materials = np.maximum(model.geom_matid, 0)
        with_materials = model.nmat > 0
        self._repeats = model.mat_texrepeat[materials].T if with_materials else np.ones((2, model.ngeom), np.float32)
        uniform = model.mat_texuniform[materials] if with_materials else np.zeros(model.ngeom)
        self._uniform: Bool[np.ndarray, " geoms"] = np.asarray(uniform, bool)
        self._sizes = drawn_sizes(model.geom_type, model.geom_size)
        self._has_coordinates = _has_coordinates(model)
        # Geoms that are coloured together: one texture, laid on them in one way.
        ways = np.stack([self._ids, model.geom_type, self._has_coordinates])
        self._looks = np.unique(ways, axis=1, return_inverse=True)[1].reshape(-1)

    def colours(
        self, geoms: Geoms, spots: Spots, faces: Int[np.ndarray, " points"]
    ) -> tuple[Int[np.ndarray, " some"], Float32[np.ndarray, "rgb some"]]:
        """Return which of the points in geoms' frames have a texture, and what it multiplies their colours by.

        `faces` are the rows of the model's `mesh_face` that the points lie on, or -1.
        """
        textured = np.flatnonzero((self._ids[geoms] >= 0) & ~(self._has_coordinates[geoms] & (faces < 0)))
        colours = np.ones((3, len(textured)), np.float32)
        looks = self._looks[geoms[textured]]
        for look in np.flatnonzero(np.bincount(looks)).tolist():
            alike = np.flatnonzero(looks == look)
            some = textured[alike]
            of = geoms[some]
            texture = self._read(int(self._ids[of[0]]))
            if texture is not None:
                places = spots.take(some).beside()
                colours[:, alike] = self._sample(texture, of, places, faces[some])
        return textured, colours

    def _read(self, texture: int) -> Texture | None:
        if texture not in self._textures:
            self._textures[texture] = read_texture(self._model, texture)
        return self._textures[texture]

    def _sample(self, texture: Texture, geoms: Geoms, places: Places, faces: Int[np.ndarray, " points"]) -> Colours:
        """Return a texture's colours at points of geoms of one type, in the geoms' frames."""
        kind, sizes = int(self._model.geom_type[geoms[0]]), self._sizes.take(geoms, axis=1)
        if texture.num_images == CUBE_FACES:
            units = [unit_points(kind, points, sizes) for points in places]
            return sample_cube(texture, [np.where(self._uniform[geoms], unit * sizes, unit) for unit in units])
        if kind not in PROJECTED:
            uv = self._on_surface(kind, places, sizes)
        elif self._has_coordinates[geoms[0]]:
            uv = self._on_faces(FaceSpots(meshes=self._model.geom_dataid[geoms], faces=faces), places)
        else:
            return texture.sample(*self._from_above(geoms, sizes, places))
        repeats = self._repeats.take(geoms, axis=1)
        scale = np.where(repeats > 0, repeats, 1)
        has_size = sizes[:2] > 0
        scale = np.where(has_size & self._uniform[geoms], scale * sizes[:2], scale)
        endless = (kind == PLANE) & ~has_size.all(axis=0)
        return texture.sample(*(along * scale - np.float32(0.5) * endless for along in uv))

    def _on_surface(self, kind: int, places: Places, sizes: Vectors) -> list[Coordinates]:
        faces = surface_faces(kind, places[0], sizes)
        uv = [surface_coordinates(kind, points, sizes, faces) for points in places]
        if kind in ROUND:
            # The next pixel may lie on the other side of the seam.
            for beside in uv[1:]:
                beside[0] -= np.round(beside[0] - uv[0][0])
        return uv

    def _on_faces(self, spots: FaceSpots, places: Places) -> list[Coordinates]:
        weights = (corner_weights(self._model, spots, points) for points in places)
        return [texture_coordinates(self._model, spots, weight) for weight in weights]

    def _from_above(self, geoms: Geoms, sizes: Vectors, places: Places) -> list[Coordinates]:
        scale = self._repeats.take(geoms, axis=1)
        scale = np.where((sizes[:2] > 0) & ~self._uniform[geoms], scale / np.maximum(sizes[:2], 1e-9), scale)
        return [np.stack([scale[0] * x, -scale[1] * y]) / 2 - np.float32(0.5) for x, y, _ in places]


def sample_cube(texture: Texture, directions: Sequence[Vectors]) -> Colours:
    """Return the colours in directions, given with those of the next pixels along row and column."""
    faces = cube_faces(directions[0])
    here, along_row, along_column = (cube_coordinates(beside, faces) for beside in directions)
    return texture.sample(here, along_row, along_column, faces)


def _texture_ids(model: mujoco.MjModel) -> Int[np.ndarray, " geoms"]:
    ids = np.full(model.ngeom, -1)
    with_material = np.flatnonzero(model.geom_matid >= 0)
    ids[with_material] = model.mat_texid[model.geom_matid[with_material], mujoco.mjtTextureRole.mjTEXROLE_RGB]
    return ids


def _has_coordinates(model: mujoco.MjModel) -> Bool[np.ndarray, " geoms"]:
    """Tell which geoms are meshes with their own texture coordinates."""
    having = (model.geom_type == MESH) & (model.geom_dataid >= 0)
    having[having] = model.mesh_texcoordadr[model.geom_dataid[having]] >= 0
    return having
