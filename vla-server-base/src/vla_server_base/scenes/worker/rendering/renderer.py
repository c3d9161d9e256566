"""The interface of the three renderers, and how one is opened by name."""

import abc
import importlib

import mujoco

from vla_server_base.contract import Image
from vla_server_base.scenes.messages import RendererName, RenderQuality


class Drawing(abc.ABC):
    """A compiled scene that is ready to be drawn again and again."""

    @abc.abstractmethod
    def draw(self, data: mujoco.MjData, camera: int, height: int, width: int, geom_groups: tuple[int, ...]) -> Image:
        """Return the image of a camera in the state of `data`, with the geoms of these groups and all other parts."""

    @abc.abstractmethod
    def free(self) -> None:
        """Free what the drawing holds outside Python's memory."""


class Renderer(abc.ABC):
    """Draws scenes; a process has one, and uses it in one thread."""

    @abc.abstractmethod
    def prepare(self, model: mujoco.MjModel) -> Drawing:
        """Prepare a compiled scene; the renderer's own quality settings replace those of the scene."""


def import_renderer(name: RendererName) -> None:
    """Load a renderer's libraries without starting threads; the system's errors pass through.

    Also loads what they would load on first use: a confined worker cannot open files.
    """
    importlib.import_module("numpy.ma")  # by numpy.unique
    if name != "raycast":
        from vla_server_base.scenes.worker.rendering.opengl import import_platform

        import_platform(name)


def open_renderer(name: RendererName, quality: RenderQuality) -> Renderer:
    """Open the renderer of that name; the errors of the system's libraries pass through."""
    if name == "raycast":
        from vla_server_base.scenes.worker.rendering.raycasting import RayCasting

        return RayCasting()
    from vla_server_base.scenes.worker.rendering.opengl import OpenGL

    return OpenGL(name, quality)
