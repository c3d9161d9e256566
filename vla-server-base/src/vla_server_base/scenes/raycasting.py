"""The renderer for machines without any OpenGL library: rays from MuJoCo, colours from numpy."""
# pyright: reportAttributeAccessIssue=false
# (mujoco's names are in compiled modules, which pyright cannot read)

from dataclasses import dataclass
from typing import final

import mujoco
import numpy as np
from jaxtyping import Float32, Float64, Int

from vla_server_base.contract import Image
from vla_server_base.scenes.drawing import Drawing, Renderer
from vla_server_base.scenes.geom_groups import as_flags
from vla_server_base.scenes.shading import Light, Surfaces, dot, sample_cube, shade

# What OpenGL's fixed pipeline takes.
MAX_LIGHTS = 8
# How many transparent things, or insides of things, a ray may pass.
MAX_LAYERS = 4
# A group of geoms that no default option shows.
HIDDEN_GROUP = 5
GEOM_RGBA_UNSET = (0.5, 0.5, 0.5, 1.0)


@final
class RayCasting(Renderer):
    """Draws geoms, lit by the scene's lights, under its sky.

    No shadows, reflections or multisampling; textures as their mean colour; no sites, tendons, skins, flexes.
    """

    def prepare(self, model: mujoco.MjModel) -> Drawing:
        return _RayCastDrawing(model)


@dataclass(frozen=True, kw_only=True)
class _Rays:
    """One ray for each pixel, row by row from the top left; `depths` is the depth of a unit of length."""

    origins: Float64[np.ndarray, "xyz rays"]
    directions: Float64[np.ndarray, "xyz rays"]
    depths: Float64[np.ndarray, " rays"]
    share_origin: bool


@dataclass(frozen=True, kw_only=True)
class _Hits:
    """What each of some rays meets first: the geom (or -1), how far away, and its outward normal there."""

    geoms: Int[np.ndarray, " rays"]
    distances: Float64[np.ndarray, " rays"]
    normals: Float32[np.ndarray, "xyz rays"]


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
        self._sky = _sky(model)

    def draw(self, data: mujoco.MjData, camera: int, height: int, width: int, geom_groups: tuple[int, ...]) -> Image:
        self._camera.fixedcamid = camera
        self._shown_groups = as_flags(geom_groups)
        mujoco.mjv_updateCamera(self._model, data, self._camera, self._scene)
        mujoco.mjv_makeLights(self._model, data, self._scene)
        rays = _rays(self._scene, height, width)
        groups = self._model.geom_group.copy()
        try:
            colours = self._trace(data, rays)
        finally:
            self._model.geom_group[:] = groups
        return np.ascontiguousarray((colours * 255 + 0.5).astype(np.uint8).T).reshape(height, width, 3)

    def free(self) -> None:
        """Hold nothing outside Python's memory."""

    def _trace(self, data: mujoco.MjData, rays: _Rays) -> Float32[np.ndarray, "rgb rays"]:
        """Blend what each ray meets, nearest first; what a ray passes is hidden from the layers that follow.

        OpenGL draws no face from behind and none before the near plane, so that a camera inside a geom
        looks through it.
        """
        near, far = self._scene.camera[0].frustum_near, self._scene.camera[0].frustum_far
        lights = _lights(self._scene)
        colours = np.zeros(rays.directions.shape, np.float32)
        unblocked = np.ones(len(rays.depths), np.float32)
        going = np.arange(len(rays.depths))
        for _ in range(MAX_LAYERS):
            hits = self._hits(data, rays, going)
            depths = hits.distances * rays.depths[going]
            met = np.flatnonzero((hits.geoms >= 0) & (depths < far))
            going, geoms = going[met], hits.geoms[met]
            surfaces = self._surfaces(rays, going, hits, met)
            drawn = (dot(surfaces.normals, surfaces.towards_camera) > 0) & (depths[met] > near)
            alpha = self._materials.rgba[3, geoms] * drawn
            colours[:, going] += unblocked[going] * alpha * shade(surfaces, lights)
            unblocked[going] *= 1 - alpha
            passing = alpha < 1
            self._model.geom_group[np.unique(geoms[passing])] = HIDDEN_GROUP
            going = going[passing]
            if not len(going):
                break
        if self._sky is not None:
            open_sky = np.flatnonzero(unblocked > 0)
            sky = sample_cube(self._sky, rays.directions[:, open_sky].astype(np.float32))
            colours[:, open_sky] += unblocked[open_sky] * sky
        return np.clip(colours, 0, 1)

    def _hits(self, data: mujoco.MjData, rays: _Rays, going: Int[np.ndarray, " going"]) -> _Hits:
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
        return _Hits(geoms=geoms, distances=distances, normals=np.ascontiguousarray(normals.T, dtype=np.float32))

    def _surfaces(
        self, rays: _Rays, going: Int[np.ndarray, " met"], hits: _Hits, met: Int[np.ndarray, " met"]
    ) -> Surfaces:
        """Describe what the rays `going` met, which are columns `met` of `hits`."""
        geoms = hits.geoms[met]
        directions = rays.directions.take(going, axis=1)
        points = rays.origins.take(going, axis=1) + hits.distances[met] * directions
        return Surfaces(
            points=points.astype(np.float32),
            normals=hits.normals.take(met, axis=1),
            towards_camera=-directions.astype(np.float32),
            rgb=self._materials.rgba[:3].take(geoms, axis=1),
            emission=self._materials.emission[geoms],
            specular=self._materials.specular[geoms],
            shininess=self._materials.shininess[geoms],
        )


def _rays(scene: mujoco.MjvScene, height: int, width: int) -> _Rays:
    """Follow `setView` of MuJoCo's engine_render: the frustum's width comes from the picture if not given."""
    left, right = scene.camera
    centre = (left.frustum_center + right.frustum_center) / 2
    tall = left.frustum_top - left.frustum_bottom
    half_width = left.frustum_width or tall * width / height / 2
    across = centre + half_width * ((np.arange(width) + 0.5) / width * 2 - 1)
    up = left.frustum_top - tall * (np.arange(height) + 0.5) / height
    forward, upward = left.forward.astype(float), left.up.astype(float)
    rightward = np.cross(forward, upward)
    position = (left.pos + right.pos).astype(float)[:, None] / 2
    beside = upward[:, None, None] * up[:, None] + rightward[:, None, None] * across
    beside = beside.reshape(3, height * width)
    if left.orthographic:
        directions = np.broadcast_to(forward[:, None], beside.shape)
        return _Rays(
            origins=position + beside,
            directions=directions,
            depths=np.ones(height * width),
            share_origin=False,
        )
    directions = beside + left.frustum_near * forward[:, None]
    depths = left.frustum_near / np.sqrt(dot(directions, directions))
    return _Rays(
        origins=np.broadcast_to(position, beside.shape),
        directions=directions * (depths / left.frustum_near),
        depths=depths,
        share_origin=True,
    )


def _lights(scene: mujoco.MjvScene) -> list[Light]:
    return [
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
    ]


def _materials(model: mujoco.MjModel) -> _Materials:
    """Follow `setMaterial` of MuJoCo's engine_vis_visualize: a geom's own colour wins if it was set."""
    rgba = np.clip(model.geom_rgba, 0, 1)
    emission = np.zeros(model.ngeom, np.float32)
    specular, shininess = emission + np.float32(0.5), emission + np.float32(0.5)
    for geom in np.flatnonzero(model.geom_matid >= 0).tolist():
        material = model.geom_matid[geom]
        if (rgba[geom] == GEOM_RGBA_UNSET).all():
            rgba[geom] = np.clip(model.mat_rgba[material], 0, 1)
        texture = model.mat_texid[material, mujoco.mjtTextureRole.mjTEXROLE_RGB]
        rgba[geom, :3] *= _mean_colour(model, int(texture))
        emission[geom] = model.mat_emission[material]
        specular[geom] = model.mat_specular[material]
        shininess[geom] = model.mat_shininess[material]
    return _Materials(rgba=np.ascontiguousarray(rgba.T), emission=emission, specular=specular, shininess=shininess)


def _mean_colour(model: mujoco.MjModel, texture: int) -> Float32[np.ndarray, " 3"]:
    if texture < 0 or model.tex_nchannel[texture] < 3:
        return np.ones(3, np.float32)
    return _pixels(model, texture).reshape(-1, 3).mean(axis=0)


def _sky(model: mujoco.MjModel) -> Float32[np.ndarray, "6 size size 3"] | None:
    for texture in np.flatnonzero(model.tex_type == mujoco.mjtTexture.mjTEXTURE_SKYBOX).tolist():
        size = model.tex_width[texture]
        if model.tex_height[texture] == 6 * size and model.tex_nchannel[texture] >= 3:
            return _pixels(model, texture).reshape(6, size, size, 3)
    return None


def _pixels(model: mujoco.MjModel, texture: int) -> Float32[np.ndarray, "height width 3"]:
    height, width = model.tex_height[texture], model.tex_width[texture]
    channels, start = model.tex_nchannel[texture], model.tex_adr[texture]
    pixels = model.tex_data[start : start + height * width * channels].reshape(height, width, channels)
    return pixels[..., :3].astype(np.float32) / np.float32(255)
