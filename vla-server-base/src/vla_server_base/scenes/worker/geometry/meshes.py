"""The shapes of a scene's geoms as meshes of a glTF file. Geoms that look alike share one."""

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any, final

import mujoco
import numpy as np
from jaxtyping import Float32

from vla_server_base.scenes.worker.geometry.glb import Buffer
from vla_server_base.scenes.worker.geometry.materials import GltfMaterials
from vla_server_base.scenes.worker.geometry.model_surfaces import height_field, mesh
from vla_server_base.scenes.worker.geometry.primitives import box, capsule, cylinder, plane, sphere
from vla_server_base.scenes.worker.geometry.surface import read_surface
from vla_server_base.scenes.worker.geometry.texture_layout import lay_texture
from vla_server_base.scenes.worker.geometry.triangles import Triangles
from vla_server_base.scenes.worker.rendering.raycast.texture_mapping import (
    BOX,
    CAPSULE,
    CYLINDER,
    ELLIPSOID,
    HFIELD,
    MESH,
    PLANE,
    SDF,
    SPHERE,
    drawn_sizes,
)

UNIT_SHAPES = {SPHERE: sphere, ELLIPSOID: sphere, CYLINDER: cylinder, BOX: box, PLANE: plane}

ENDLESS_PLANE = 20
"""Half the side of a plane without an end, in the scene's extents."""

Sizes = Float32[np.ndarray, " 3"]


@dataclass(frozen=True, kw_only=True)
class PlacedMesh:
    """A mesh of the file by its index, and what a node scales it by."""

    index: int
    scale: Sizes


@final
class Meshes:
    """The meshes of a file, and the arrays that they share."""

    def __init__(self, model: mujoco.MjModel, buffer: Buffer, materials: GltfMaterials):
        self._model, self._buffer, self._materials = model, buffer, materials
        self._sizes = drawn_sizes(model.geom_type, model.geom_size)
        self._shapes: dict[Hashable, dict[str, Any]] = {}
        self._indices: dict[tuple[Hashable, int], int] = {}
        self.meshes: list[dict[str, Any]] = []

    def add(self, geom: int) -> PlacedMesh | None:
        """Return a geom's mesh, which is now in the file; None if nothing of the geom can be seen.

        Raises:
            SceneRefused: the file would be too large.
        """
        kind = int(self._model.geom_type[geom])
        has_data = kind not in (MESH, SDF, HFIELD) or self._model.geom_dataid[geom] >= 0
        if not has_data or not self._materials.is_drawn(geom):
            return None
        material, shape = self._materials.add(geom), self._shape_key(geom)
        if (shape, material) not in self._indices:
            if shape not in self._shapes:
                self._shapes[shape] = self._write(self._triangles(geom))
            self._indices[shape, material] = len(self.meshes)
            self.meshes.append({"primitives": [{**self._shapes[shape], "material": material}]})
        return PlacedMesh(index=self._indices[shape, material], scale=self._scale(geom))

    def _drawn(self, geom: int) -> Sizes:
        """Return half the sizes of what is drawn of a geom along its axes [m]."""
        sizes = self._sizes[:, geom]
        if self._model.geom_type[geom] == PLANE:
            far = np.float32(ENDLESS_PLANE * self._model.stat.extent)
            return np.array([*np.where(sizes[:2] > 0, sizes[:2], far), 1], np.float32)
        return sizes

    def _scale(self, geom: int) -> Sizes:
        has_unit_shape = int(self._model.geom_type[geom]) in UNIT_SHAPES
        return self._drawn(geom) if has_unit_shape else np.ones(3, np.float32)

    def _shape_key(self, geom: int) -> Hashable:
        """Name a geom's triangles and texture coordinates: equal where they are."""
        kind, data = int(self._model.geom_type[geom]), int(self._model.geom_dataid[geom])
        sizes = tuple(self._sizes[:, geom].tolist())
        if self._materials.texture(geom) is None:
            return kind, data, sizes if kind == CAPSULE else None
        surface = read_surface(self._model, geom, self._sizes[:, geom])
        return kind, data, sizes if surface.depends_on_size else None, int(self._model.geom_matid[geom])

    def _triangles(self, geom: int) -> Triangles:
        """Return a geom's triangles, before the node scales them."""
        kind, data = int(self._model.geom_type[geom]), int(self._model.geom_dataid[geom])
        if kind == CAPSULE:
            radius, _, half_length = self._sizes[:, geom].tolist()
            triangles = capsule(radius, half_length)
        elif kind in UNIT_SHAPES:
            triangles = UNIT_SHAPES[kind]()
        else:
            triangles = height_field(self._model, data) if kind == HFIELD else mesh(self._model, data)
        texture = self._materials.texture(geom)
        if texture is None:
            return replace(triangles, coordinates=None)
        scale = self._scale(geom)
        drawn = replace(triangles, points=triangles.points * scale)
        laid = lay_texture(texture, read_surface(self._model, geom, self._sizes[:, geom]), drawn)
        return replace(laid, points=laid.points / scale)

    def _write(self, triangles: Triangles) -> dict[str, Any]:
        """Write triangles to the buffer, and return them as a primitive without a material."""
        attributes = {
            "POSITION": self._buffer.add_vertices(triangles.points, with_bounds=True),
            "NORMAL": self._buffer.add_vertices(triangles.normals),
        }
        if triangles.coordinates is not None:
            attributes["TEXCOORD_0"] = self._buffer.add_vertices(triangles.coordinates)
        return {"attributes": attributes, "indices": self._buffer.add_faces(triangles.faces)}
