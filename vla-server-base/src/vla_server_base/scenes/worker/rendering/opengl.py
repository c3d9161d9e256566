"""MuJoCo's own renderer, through EGL or OSMesa."""

import importlib
import os
from types import ModuleType
from typing import final

import mujoco
import numpy as np

from vla_server_base.contract import Image
from vla_server_base.scenes.messages import RendererName, RenderQuality
from vla_server_base.scenes.worker.rendering.geom_groups import as_flags
from vla_server_base.scenes.worker.rendering.renderer import Drawing, Renderer

FRAMEBUFFER = mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value
FONT = mujoco.mjtFontScale.mjFONTSCALE_50.value
# MuJoCo's default; 16384 takes 3 s and 1.2 GB.
SHADOW_MAP_SIDE = 4096
# Making room for 40 000 takes 0.2 s; what finds no room is not drawn.
MAX_DRAWN = 40_000


def import_platform(name: RendererName) -> ModuleType:
    """Load the libraries of EGL or OSMesa; the system's errors pass through."""
    # MuJoCo's modules choose the platform when they are imported.
    os.environ["PYOPENGL_PLATFORM"] = name
    return importlib.import_module(f"mujoco.{name}")


@final
class OpenGL(Renderer):
    """MuJoCo's own renderer, in a context without a window."""

    def __init__(self, name: RendererName, quality: RenderQuality):
        self._gl_context = import_platform(name).GLContext(16, 16)
        self._gl_context.make_current()
        self._quality = quality

    def prepare(self, model: mujoco.MjModel) -> Drawing:
        model.vis.quality.offsamples = self._quality.multisampling
        model.vis.quality.shadowsize = SHADOW_MAP_SIDE if self._quality.shadows else 0
        model.vis.global_.offheight = model.vis.global_.offwidth = 16
        return _OpenGLDrawing(model, self._quality, self._gl_context)


@final
class _OpenGLDrawing(Drawing):
    def __init__(self, model: mujoco.MjModel, quality: RenderQuality, gl_context: object):
        self._model = model
        # Held, not used: OpenGL calls without a context do nothing, and say nothing.
        self._gl_context = gl_context
        self._options, self._camera = mujoco.MjvOption(), mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._scene = mujoco.MjvScene(model, min(_num_drawn(model), MAX_DRAWN))
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = quality.shadows
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = quality.reflections
        self._context = mujoco.MjrContext(model, FONT)

    def draw(self, data: mujoco.MjData, camera: int, height: int, width: int, geom_groups: tuple[int, ...]) -> Image:
        self._camera.fixedcamid = camera
        self._options.geomgroup[:] = as_flags(geom_groups)
        # Every time: else it draws into another scene's image.
        mujoco.mjr_setBuffer(FRAMEBUFFER, self._context)
        if (self._context.offHeight, self._context.offWidth) != (height, width):
            mujoco.mjr_resizeOffscreen(width, height, self._context)
        # Before mjv_updateScene does: it lays endless planes around where the camera was.
        mujoco.mjv_updateCamera(self._model, data, self._camera, self._scene)
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(self._model, data, self._options, None, self._camera, everything, self._scene)
        viewport = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(viewport, self._scene, self._context)
        # Zeros: if OpenGL fails to write, nobody sees old memory.
        image = np.zeros((height, width, 3), np.uint8)
        mujoco.mjr_readPixels(image, None, viewport, self._context)
        return image[::-1]

    def free(self) -> None:
        self._context.free()


def _num_drawn(model: mujoco.MjModel) -> int:
    """Estimate what mjv_updateScene makes of a model; a slack tendon is a chain of segments."""
    return 100 + model.ngeom + model.nsite + model.nflex + model.nskin + 16 * model.nwrap + model.nsensordata
