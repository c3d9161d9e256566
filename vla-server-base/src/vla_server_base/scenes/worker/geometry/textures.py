"""A model's textures as PNG images of a glTF file."""

import struct
import zlib
from dataclasses import dataclass
from typing import Any, final

import mujoco
import numpy as np
from jaxtyping import UInt8

from vla_server_base.scenes.worker.geometry.glb import Buffer
from vla_server_base.scenes.worker.rendering.raycast.textures import CUBE_FACES, halved

MAX_SIDE = 1024
"""Pixels of one side, beyond which a texture is halved: a page draws it on a few hundred."""

COMPRESSION = 3
"""Of 9: images are a seventh larger than at 6, in less than half the time."""

LINEAR, LINEAR_MIPMAP_LINEAR, CLAMP_TO_EDGE, REPEAT = 9729, 9987, 33071, 10497
SAMPLERS = [
    {"magFilter": LINEAR, "minFilter": LINEAR_MIPMAP_LINEAR, "wrapS": REPEAT, "wrapT": REPEAT},
    # Without mipmaps, in which the faces of a cube would blend.
    {"magFilter": LINEAR, "minFilter": LINEAR, "wrapS": CLAMP_TO_EDGE, "wrapT": CLAMP_TO_EDGE},
]

Pixels = UInt8[np.ndarray, "height width 3"]
Images = UInt8[np.ndarray, "images height width 3"]


@dataclass(frozen=True, kw_only=True)
class PlacedTexture:
    """A texture of the file by its index; a cube has one image for all faces, or six below one another."""

    index: int
    is_cube: bool
    num_images: int
    width: int


@final
class Textures:
    """The textures that a file's materials use, each written once."""

    def __init__(self, model: mujoco.MjModel, buffer: Buffer):
        self._model, self._buffer = model, buffer
        self._placed: dict[int, PlacedTexture | None] = {}
        self.images: list[dict[str, Any]] = []
        self.textures: list[dict[str, Any]] = []

    def add(self, texture: int) -> PlacedTexture | None:
        """Return a texture of the model, which is now in the file; None for one that MuJoCo does not draw either."""
        if texture not in self._placed:
            self._placed[texture] = self._place(texture)
        return self._placed[texture]

    def _place(self, texture: int) -> PlacedTexture | None:
        images = read_images(self._model, texture)
        if images is None:
            return None
        view = self._buffer.add_view(encode_png(images.reshape(-1, images.shape[2], 3)))
        self.images.append({"bufferView": view, "mimeType": "image/png", "name": self._model.tex(texture).name})
        is_cube = _is_cube(self._model, texture)
        self.textures.append({"sampler": int(is_cube), "source": len(self.images) - 1})
        return PlacedTexture(
            index=len(self.textures) - 1, is_cube=is_cube, num_images=len(images), width=images.shape[2]
        )


def read_images(model: mujoco.MjModel, texture: int) -> Images | None:
    """Return a texture's image, or the six of a cube, of at most MAX_SIDE pixels a side; None without colours."""
    height, width = int(model.tex_height[texture]), int(model.tex_width[texture])
    channels, start = int(model.tex_nchannel[texture]), int(model.tex_adr[texture])
    if channels < 3:
        return None
    num_images = CUBE_FACES if _is_cube(model, texture) and height != width else 1
    texels = model.tex_data[start : start + height * width * channels]
    images = texels.reshape(num_images, -1, width, channels)[..., :3]
    while max(images.shape[1:3]) > MAX_SIDE:
        images = halved(halved(images, 1), 2)
    return images


def _is_cube(model: mujoco.MjModel, texture: int) -> bool:
    return bool(model.tex_type[texture] != mujoco.mjtTexture.mjTEXTURE_2D)


def encode_png(pixels: Pixels) -> bytes:
    """Return pixels as PNG (RFC 2083); Pillow would add a tenth of a second to the start of every worker."""
    height, width = pixels.shape[:2]
    # Each row begins with its filter: 1 is the difference from the pixel to the left.
    rows = np.ones((height, 1 + 3 * width), np.uint8)
    rows[:, 1:4] = pixels[:, 0]
    rows[:, 4:] = np.diff(pixels, axis=1).reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows.tobytes(), COMPRESSION)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
