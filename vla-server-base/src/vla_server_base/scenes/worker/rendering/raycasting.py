"""The renderer for machines without any OpenGL library: rays from MuJoCo, colours from numpy."""

from typing import final

import mujoco
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int

from vla_server_base.contract import Image
from vla_server_base.scenes.worker.rendering.geom_groups import as_flags
from vla_server_base.scenes.worker.rendering.raycast.flat_faces import FlatFaces
from vla_server_base.scenes.worker.rendering.raycast.hits import Hits, cast
from vla_server_base.scenes.worker.rendering.raycast.lights import scene_lights
from vla_server_base.scenes.worker.rendering.raycast.materials import read_materials
from vla_server_base.scenes.worker.rendering.raycast.mesh_faces import FaceFinder, mesh_facets
from vla_server_base.scenes.worker.rendering.raycast.rays import Rays, camera_rays
from vla_server_base.scenes.worker.rendering.raycast.shading import Surfaces, dot, shade
from vla_server_base.scenes.worker.rendering.raycast.sky import read_sky
from vla_server_base.scenes.worker.rendering.raycast.spots import Vectors
from vla_server_base.scenes.worker.rendering.raycast.texture_mapping import MESH
from vla_server_base.scenes.worker.rendering.raycast.texturing import Texturing
from vla_server_base.scenes.worker.rendering.renderer import Drawing, Renderer

MAX_RAYS = 32768
"""At once: so many fit a processor's cache, and bound the memory of a large image."""

MAX_LAYERS = 4
"""How many transparent geoms, or insides of geoms, a ray may pass."""


@final
class RayCasting(Renderer):
    """Draws geoms with their textures, lit by the scene's lights, under its sky.

    No shadows, reflections or multisampling; no sites, tendons, skins, flexes.
    """

    def prepare(self, model: mujoco.MjModel) -> Drawing:
        return _RayCastDrawing(model)


@final
class _RayCastDrawing(Drawing):
    def __init__(self, model: mujoco.MjModel):
        self._model = model
        # Only its camera and lights are used, so it needs no room for geoms.
        self._scene = mujoco.MjvScene(model, 1)
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._materials = read_materials(model)
        self._flat_faces = FlatFaces(model)
        self._face_finder = FaceFinder(model)
        self._texturing = Texturing(model)
        self._sky = read_sky(model)

    def draw(self, data: mujoco.MjData, camera: int, height: int, width: int, geom_groups: tuple[int, ...]) -> Image:
        self._camera.fixedcamid = camera
        self._shown_groups = as_flags(geom_groups)
        if self._sky is not None:
            self._sky.show(np.isin(self._model.geom_group, geom_groups))
        mujoco.mjv_updateCamera(self._model, data, self._camera, self._scene)
        mujoco.mjv_makeLights(self._model, data, self._scene)
        image = np.empty((height, width, 3), np.uint8)
        band = max(1, MAX_RAYS // width)
        for rows in (slice(first, first + band) for first in range(0, height, band)):
            colours = self._trace(data, camera_rays(self._scene, height, width, rows))
            image[rows] = (colours * 255 + 0.5).astype(np.uint8).T.reshape(-1, width, 3)
        return image

    def free(self) -> None:
        """Hold nothing outside Python's memory."""

    def _trace(self, data: mujoco.MjData, rays: Rays) -> Float32[np.ndarray, "rgb rays"]:
        looks = self._model.geom_matid.copy(), self._model.geom_rgba.copy()
        try:
            return self._blend(data, rays)
        finally:
            self._model.geom_matid[:], self._model.geom_rgba[:] = looks

    def _blend(self, data: mujoco.MjData, rays: Rays) -> Float32[np.ndarray, "rgb rays"]:
        """Blend what each ray meets, nearest first; what a ray passes is hidden from the layers that follow.

        MuJoCo draws what is transparent twice: from front to back, then from back to front.
        """
        in_front, behind, background = (np.zeros(rays.directions.shape, np.float32) for _ in range(3))
        unblocked = np.ones(len(rays.depths), np.float32)
        ends, reach = np.full(len(rays.depths), np.inf), self._reach(rays)
        going = np.arange(len(rays.depths))
        for _ in range(MAX_LAYERS):
            hits = cast(self._model, data, rays, going, reach, self._shown_groups)
            colours = self._colours(data, rays, hits)
            alpha = self._materials.rgba[3, hits.geoms] * self._is_drawn(rays, hits)
            solid, clear = np.flatnonzero(alpha == 1), np.flatnonzero(alpha < 1)
            background[:, hits.rays[solid]] = colours[:, solid]
            ends[hits.rays[solid]] = hits.distances[solid]
            going = hits.rays[clear]
            if not len(going):
                break
            self._hide(np.unique(hits.geoms[clear]))
            veil = alpha[clear] * colours[:, clear]
            in_front[:, going] += unblocked[going] * veil
            unblocked[going] *= 1 - alpha[clear]
            behind[:, going] += veil / unblocked[going]
        if self._sky is not None:
            open_sky = np.flatnonzero(np.isinf(ends))
            background[:, open_sky] = self._sky.colours(rays.infinitely_far(open_sky))
            far = self._scene.camera[0].frustum_far
            self._sky.add_haze(background, data, rays.eye, rays.directions, ends, far)
        return np.clip(in_front + unblocked**2 * (behind + background), 0, 1)

    def _reach(self, rays: Rays) -> Float64[np.ndarray, " rays"]:
        """Return how far each ray goes: to the far plane or the sky."""
        far = self._scene.camera[0].frustum_far
        reach = far / rays.depths
        return reach if self._sky is None else np.minimum(reach, self._sky.distances(rays.directions, far))

    def _colours(self, data: mujoco.MjData, rays: Rays, hits: Hits) -> Float32[np.ndarray, "rgb hits"]:
        spots = rays.ends(hits.rays, hits.distances, hits.normals)
        in_frames = spots.in_frames(data, hits.geoms)
        faces = self._faces(hits, in_frames.points)
        colours = self._lit(data, rays.eye, hits, spots.points, in_frames.points, faces)
        textured, factors = self._texturing.colours(hits.geoms, in_frames, faces)
        colours[:, textured] *= factors
        return colours

    def _faces(self, hits: Hits, in_frames: Vectors) -> Int[np.ndarray, " hits"]:
        """Return the faces of meshes that were hit, -1 elsewhere."""
        faces = np.full(len(hits.geoms), -1)
        of_mesh = np.flatnonzero(self._model.geom_type[hits.geoms] == MESH)
        meshes = self._model.geom_dataid[hits.geoms[of_mesh]]
        faces[of_mesh] = self._face_finder.find(meshes, in_frames.take(of_mesh, axis=1))
        return faces

    def _lit(
        self,
        data: mujoco.MjData,
        eye: Float64[np.ndarray, " xyz"],
        hits: Hits,
        points: Vectors,
        in_frames: Vectors,
        faces: Int[np.ndarray, " hits"],
    ) -> Float32[np.ndarray, "rgb hits"]:
        """Light what was hit without its textures: faces at their corners, round things at every point."""
        lights = scene_lights(self._scene)
        is_flat, is_meshed = self._flat_faces.is_flat[hits.geoms], faces >= 0
        flat, meshed, rest = (np.flatnonzero(part) for part in (is_flat, is_meshed, ~(is_flat | is_meshed)))
        colours = np.zeros(points.shape, np.float32)
        surfaces = self._surfaces(hits.geoms[rest], points.take(rest, axis=1), hits.normals.take(rest, axis=1))
        colours[:, rest] = shade(surfaces, lights, eye)
        quads = self._flat_faces.facets(data, eye, hits.geoms[flat], in_frames.take(flat, axis=1))
        triangles = mesh_facets(self._model, data, hits.geoms[meshed], faces[meshed], in_frames.take(meshed, axis=1))
        for which, facets in ((flat, quads), (meshed, triangles)):
            geoms = hits.geoms[which[facets.firsts]]
            colours[:, which] = sum(
                corner.weights
                * shade(self._surfaces(geoms, corner.points, corner.normals), lights, eye).take(facets.runs, axis=1)
                for corner in facets.corners
            )
        return colours

    def _surfaces(self, geoms: Int[np.ndarray, " points"], points: Vectors, normals: Vectors) -> Surfaces:
        return Surfaces(
            points=points,
            normals=normals,
            rgb=self._materials.rgba[:3].take(geoms, axis=1),
            emission=self._materials.emission[geoms],
            specular=self._materials.specular[geoms],
            shininess=self._materials.shininess[geoms],
        )

    def _is_drawn(self, rays: Rays, hits: Hits) -> Bool[np.ndarray, " hits"]:
        """Tell which hits OpenGL draws.

        It draws no face from behind and none before the near plane, so that a camera inside a geom looks through it.
        """
        from_outside = dot(hits.normals, rays.directions.take(hits.rays, axis=1)) < 0
        return from_outside & (hits.distances * rays.depths[hits.rays] > self._scene.camera[0].frustum_near)

    def _hide(self, geoms: Int[np.ndarray, " some"]) -> None:
        """Let rays pass geoms, as they pass what has no material and no opacity."""
        self._model.geom_matid[geoms] = -1
        self._model.geom_rgba[geoms, 3] = 0
