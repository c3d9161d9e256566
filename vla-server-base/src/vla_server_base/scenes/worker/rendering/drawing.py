"""What a renderer is: it prepares a compiled scene once, and draws it again and again."""
# pyright: reportAttributeAccessIssue=false
# (mujoco's names are in compiled modules, which pyright cannot read)

import abc

import mujoco

from vla_server_base.contract import Image


class Drawing(abc.ABC):
    """One compiled scene, ready to be drawn again and again."""

    @abc.abstractmethod
    def draw(self, data: mujoco.MjData, camera: int, height: int, width: int, geom_groups: tuple[int, ...]) -> Image:
        """Return the geoms of these groups, and all else there is, as the camera sees them in the state of `data`."""

    @abc.abstractmethod
    def free(self) -> None:
        """Give back what the drawing holds outside Python's memory."""


class Renderer(abc.ABC):
    """Draws scenes; a process has one, and uses it in one thread."""

    @abc.abstractmethod
    def prepare(self, model: mujoco.MjModel) -> Drawing:
        """Take a compiled scene, whose visual quality settings it replaces by its own."""
