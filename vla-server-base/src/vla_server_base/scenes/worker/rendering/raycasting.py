"""The renderer for machines without any OpenGL library: rays from MuJoCo, colours from numpy."""
# pyright: reportAttributeAccessIssue=false
# (mujoco's names are in compiled modules, which pyright cannot read)

from dataclasses import dataclass
from typing import final

import mujoco
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int

from vla_server_base.contract import Image
from vla_server_base.scenes.worker.rendering.geom_groups import as_flags
from vla_server_base.scenes.worker.rendering.raycast.flat_faces import FlatFaces
from vla_server_base.scenes.worker.rendering.raycast.mesh_faces import FaceFinder, mesh_facets
from vla_server_base.scenes.worker.rendering.raycast.rays import Rays, camera_rays
from vla_server_base.scenes.worker.rendering.raycast.shading import Light, Surfaces, dot, shade
from vla_server_base.scenes.worker.rendering.raycast.sky import read_sky
from vla_server_base.scenes.worker.rendering.raycast.spots import Vectors
from vla_server_base.scenes.worker.rendering.raycast.texture_mapping import MESH
from vla_server_base.scenes.worker.rendering.raycast.texturing import Texturing
from vla_server_base.scenes.worker.rendering.renderer import Drawing, Renderer

# At once: so many fit a processor's cache, and bound the memory of a large picture.
MAX_RAYS = 32768
# What OpenGL's fixed pipeline takes.
MAX_LIGHTS = 8
# How many transparent things, or insides of things, a ray may pass.
MAX_LAYERS = 4
GEOM_RGBA_UNSET = (0.5, 0.5, 0.5, 1.0)
# What MuJoCo draws as opaque.
OPAQUE_ALPHA = 0.995
# `initLights` of MuJoCo's render_gl3.c: for a scene without lights.
LIGHTLESS_AMBIENT = 0.3


@final
class RayCasting(Renderer):
    """Draws geoms with their textures, lit by the scene's lights, under its sky.

    No shadows, reflections or multisampling; no sites, tendons, skins, flexes.
    """

    def prepare(self, model: mujoco.MjModel) -> Drawing:
        return _RayCastDrawing(model)


@dataclass(frozen=True, kw_only=True)
class _Hits:
    """What some rays of a camera meet first: geoms, how far away, and their outward normals there."""

    rays: Int[np.ndarray, " hits"]
    geoms: Int[np.ndarray, " hits"]
    distances: Float64[np.ndarray, " hits"]
    normals: Float32[np.ndarray, "xyz hits"]


@dataclass(frozen=True, kw_only=True)
class _Materials:
    """One column for each geom."""

    rgba: Float32[np.ndarray, "rgba geoms"]
    emission: Float32[np.ndarray, " geoms"]
    specular: Float32[np.ndarray, " geoms"]
    shininess: Float32[np.ndarray, " geoms"]


@final
class _RayCastDrawing(Drawing):
    def __init__(self, model: mujoco.MjModel):
        self._model = model
        # Only its camera and lights are used, so it needs no room for geoms.
        self._scene = mujoco.MjvScene(model, 1)
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._materials = _materials(model)
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
            hits = self._hits(data, rays, going, reach)
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

    def _hits(
        self,
        data: mujoco.MjData,
        rays: Rays,
        going: Int[np.ndarray, " going"],
        reach: Float64[np.ndarray, " rays"],
    ) -> _Hits:
        geoms = np.full(len(going), -1, np.int32)
        distances, normals = np.zeros(len(going)), np.zeros((len(going), 3))
        directions = np.ascontiguousarray(rays.directions.take(going, axis=1).T)
        shown = self._shown_groups
        if rays.share_origin:
            mujoco.mj_multiRay(
                self._model, data, rays.origins[:, 0], directions.reshape(-1), shown, True, -1,
                geoms, distances, normals.reshape(-1), len(going), mujoco.mjMAXVAL,
            )  # fmt: skip
        else:
            origins = np.ascontiguousarray(rays.origins.take(going, axis=1).T)
            for i, (origin, direction) in enumerate(zip(origins, directions, strict=True)):
                distances[i] = mujoco.mj_ray(
                    self._model, data, origin, direction, shown, True, -1, geoms[i : i + 1], normals[i]
                )
        met = np.flatnonzero((geoms >= 0) & (distances < reach[going]))
        return _Hits(
            rays=going[met],
            geoms=geoms[met],
            distances=distances[met],
            normals=np.ascontiguousarray(normals[met].T, dtype=np.float32),
        )

    def _colours(self, data: mujoco.MjData, rays: Rays, hits: _Hits) -> Float32[np.ndarray, "rgb hits"]:
        spots = rays.ends(hits.rays, hits.distances, hits.normals)
        in_frames = spots.in_frames(data, hits.geoms)
        faces = self._faces(hits, in_frames.points)
        colours = self._lit(data, rays.eye, hits, spots.points, in_frames.points, faces)
        textured, factors = self._texturing.colours(hits.geoms, in_frames, faces)
        colours[:, textured] *= factors
        return colours

    def _faces(self, hits: _Hits, in_frames: Vectors) -> Int[np.ndarray, " hits"]:
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
        hits: _Hits,
        points: Vectors,
        in_frames: Vectors,
        faces: Int[np.ndarray, " hits"],
    ) -> Float32[np.ndarray, "rgb hits"]:
        """Light what was hit without its textures: faces at their corners, round things at every point."""
        lights = _lights(self._scene)
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

    def _is_drawn(self, rays: Rays, hits: _Hits) -> Bool[np.ndarray, " hits"]:
        """Tell which hits OpenGL draws.

        It draws no face from behind and none before the near plane, so that a camera inside a geom looks through it.
        """
        from_outside = dot(hits.normals, rays.directions.take(hits.rays, axis=1)) < 0
        return from_outside & (hits.distances * rays.depths[hits.rays] > self._scene.camera[0].frustum_near)

    def _hide(self, geoms: Int[np.ndarray, " some"]) -> None:
        """Let rays pass geoms, as they pass what has no material and no opacity."""
        self._model.geom_matid[geoms] = -1
        self._model.geom_rgba[geoms, 3] = 0


def _lights(scene: mujoco.MjvScene) -> list[Light]:
    """Return the lights that MuJoCo's renderer knows: directional ones and spots."""
    lights = [
        Light(
            position=light.pos,
            direction=light.dir,
            ambient=light.ambient,
            diffuse=light.diffuse,
            specular=light.specular,
            attenuation=None if light.type == mujoco.mjtLightType.mjLIGHT_DIRECTIONAL else light.attenuation,
            cutoff_degrees=light.cutoff,
            exponent=light.exponent,
        )
        for light in scene.lights[: min(scene.nlight, MAX_LIGHTS)]
        if light.type in (mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, mujoco.mjtLightType.mjLIGHT_SPOT)
    ]
    return lights or [_ambient_light()]


def _ambient_light() -> Light:
    dark = np.zeros(3, np.float32)
    return Light(
        position=dark,
        direction=np.array([0, 0, -1], np.float32),
        ambient=dark + np.float32(LIGHTLESS_AMBIENT),
        diffuse=dark,
        specular=dark,
        attenuation=None,
        cutoff_degrees=180,
        exponent=0,
    )


def _materials(model: mujoco.MjModel) -> _Materials:
    """Follow `setMaterial` of MuJoCo's engine_vis_visualize: a geom's own colour wins if it was set."""
    rgba = np.clip(model.geom_rgba, 0, 1)
    emission = np.zeros(model.ngeom, np.float32)
    specular, shininess = emission + np.float32(0.5), emission + np.float32(0.5)
    for geom in np.flatnonzero(model.geom_matid >= 0).tolist():
        material = model.geom_matid[geom]
        if (rgba[geom] == GEOM_RGBA_UNSET).all():
            rgba[geom] = np.clip(model.mat_rgba[material], 0, 1)
        emission[geom] = model.mat_emission[material]
        specular[geom] = model.mat_specular[material]
        shininess[geom] = model.mat_shininess[material]
    rgba[:, 3] = np.where(rgba[:, 3] < OPAQUE_ALPHA, rgba[:, 3], 1)
    return _Materials(rgba=np.ascontiguousarray(rgba.T), emission=emission, specular=specular, shininess=shininess)
