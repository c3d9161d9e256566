"""The three renderers by name. A system that lacks one's libraries fails when it is imported or opened."""

import importlib

from vla_server_base.scenes.messages import RendererName, RenderQuality
from vla_server_base.scenes.worker.rendering.drawing import Renderer


def import_renderer(name: RendererName) -> None:
    """Load a renderer's libraries, which starts no threads yet; raises whatever the system makes of it.

    Also what they would load when it is first needed: a confined worker opens no file any more.
    """
    importlib.import_module("numpy.ma")  # by numpy.unique
    if name != "raycast":
        from vla_server_base.scenes.worker.rendering.opengl import import_platform

        import_platform(name)


def open_renderer(name: RendererName, quality: RenderQuality) -> Renderer:
    """Open the renderer of that name; raises whatever the system's libraries make of it."""
    if name == "raycast":
        from vla_server_base.scenes.worker.rendering.raycasting import RayCasting

        return RayCasting()
    from vla_server_base.scenes.worker.rendering.opengl import OpenGL

    return OpenGL(name, quality)
