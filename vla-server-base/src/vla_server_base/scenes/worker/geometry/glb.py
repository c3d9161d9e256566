"""glTF 2.0 in its binary form: a JSON document and one buffer in one file.

Follows https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html, chapters 3.6 and 4.4.
"""

import json
import struct
from collections.abc import Mapping
from typing import Any, final

import numpy as np
from jaxtyping import Float32

from vla_server_base.errors import SceneError, SceneRefused
from vla_server_base.scenes.worker.geometry.triangles import Faces

MAX_BYTES = 60 * 2**20
"""Of one file; a reply of a worker may have 64 MB, and a browser has to hold it."""

FLOAT, UNSIGNED_SHORT, UNSIGNED_INT = 5126, 5123, 5125
VERTICES, INDICES = 34962, 34963
VERSION = 2
TYPES = {2: "VEC2", 3: "VEC3"}


@final
class Buffer:
    """The binary part of a file, as it grows."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._num_bytes = 0
        self.views: list[dict[str, int]] = []
        self.accessors: list[dict[str, Any]] = []

    def add_view(self, content: bytes, target: int | None = None) -> int:
        """Add bytes, and return the index of their view.

        Raises:
            SceneRefused: the file would be too large.
        """
        view = {"buffer": 0, "byteOffset": self._num_bytes, "byteLength": len(content)}
        self.views.append(view if target is None else {**view, "target": target})
        padded = content + bytes(-len(content) % 4)
        self._parts.append(padded)
        self._num_bytes += len(padded)
        check_size(self._num_bytes)
        return len(self.views) - 1

    def add_vertices(self, values: Float32[np.ndarray, "vertices axes"], *, with_bounds: bool = False) -> int:
        """Add a row for each vertex, and return the index of the accessor; positions need bounds."""
        view = self.add_view(values.astype("<f4").tobytes(), VERTICES)
        accessor = {"bufferView": view, "componentType": FLOAT, "count": len(values), "type": TYPES[values.shape[1]]}
        if with_bounds:
            accessor |= {"min": values.min(axis=0).tolist(), "max": values.max(axis=0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def add_faces(self, faces: Faces) -> int:
        """Add triangles by the rows of their corners, and return the index of the accessor."""
        is_short = int(faces.max()) < 2**16 - 1
        view = self.add_view(faces.astype("<u2" if is_short else "<u4").tobytes(), INDICES)
        kind = UNSIGNED_SHORT if is_short else UNSIGNED_INT
        self.accessors.append({"bufferView": view, "componentType": kind, "count": faces.size, "type": "SCALAR"})
        return len(self.accessors) - 1

    def content(self) -> bytes:
        """Return all bytes."""
        return b"".join(self._parts)


def encode_glb(document: Mapping[str, Any], buffer: Buffer) -> bytes:
    """Return a file of a document, without the lists that are empty, and its buffer.

    Raises:
        SceneError: a number of the document is not finite.
        SceneRefused: the file would be too large.
    """
    binary = buffer.content()
    lists = {**document, "accessors": buffer.accessors, "bufferViews": buffer.views}
    filled = {name: value for name, value in lists.items() if value not in ([], {})}
    if binary:
        filled["buffers"] = [{"byteLength": len(binary)}]
    try:
        text = json.dumps(filled, separators=(",", ":"), allow_nan=False).encode()
    except ValueError as error:
        raise SceneError(
            "the scene's geometry holds numbers that are not finite",
            hint="correct the positions, sizes and colours of its geoms, cameras and lights",
        ) from error
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    if binary:
        chunks += struct.pack("<I4s", len(binary), b"BIN\0") + binary
    check_size(len(chunks))
    return struct.pack("<4sII", b"glTF", VERSION, 12 + len(chunks)) + chunks


def check_size(num_bytes: int) -> None:
    """Refuse a file that is too large.

    Raises:
        SceneRefused: it says what to leave out.
    """
    if num_bytes > MAX_BYTES:
        raise SceneRefused(
            f"the scene's geometry takes more than {MAX_BYTES // 2**20} MB",
            hint="send meshes of fewer faces and smaller textures, or draw fewer geoms by render.geom_groups",
        )
