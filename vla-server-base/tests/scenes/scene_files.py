"""One small, valid file of every format that MuJoCo reads."""

import io
import struct

import numpy as np
from PIL import Image

CORNERS = np.array([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)], np.float32)
FACES = np.array([(0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3)], np.int32)


def _obj() -> bytes:
    text = "".join(f"v {x} {y} {z}\n" for x, y, z in CORNERS) + "vt 0 0\nvn 0 0 1\n"
    return (text + "".join(f"f {a + 1}/1/1 {b + 1}/1/1 {c + 1}/1/1\n" for a, b, c in FACES)).encode()


def _obj_of_quads() -> bytes:
    corners = "".join(f"v {x} {y} 0\n" for y in range(3) for x in range(3))
    return (corners + "o part\ng side\ns 1\nf 1 2 5 4\nf -8 -7 -4 -5\nf 4 5 8 7\nf 5 6 9 8\n").encode()


def _stl() -> bytes:
    triangles = [struct.pack("<3f", 0, 0, 1) + CORNERS[face].tobytes() + bytes(2) for face in FACES]
    return bytes(80) + struct.pack("<I", len(FACES)) + b"".join(triangles)


def _legacy_mesh() -> bytes:
    """MuJoCo's own .msh: vertices, normals, texture coordinates, faces."""
    counts = np.array([len(CORNERS), len(CORNERS), len(CORNERS), len(FACES)], np.int32)
    coordinates = CORNERS[:, :2].copy()
    return b"".join(part.tobytes() for part in (counts, CORNERS, CORNERS + np.float32(0.1), coordinates, FACES))


def _skin() -> bytes:
    """A .skn: vertices, texture coordinates, faces, bones with their vertices."""
    content = np.array([len(CORNERS), len(CORNERS), len(FACES), 2], np.int32).tobytes()
    content += CORNERS.tobytes() + CORNERS[:, :2].copy().tobytes() + FACES.tobytes()
    for body, vertices in (("a", (0, 1)), ("b", (2, 3))):
        content += body.encode().ljust(40, b"\0") + struct.pack("<7f", 0, 0, 0, 1, 0, 0, 0)
        content += struct.pack("<3i", len(vertices), *vertices) + struct.pack("<2f", 1, 1)
    return content


def _gmsh() -> bytes:
    corners = "".join(f"{x} {y} {z}\n" for x, y, z in CORNERS)
    return (
        "$MeshFormat\n4.1 0 8\n$EndMeshFormat\n"
        f"$Nodes\n1 4 1 4\n3 1 0 4\n1\n2\n3\n4\n{corners}$EndNodes\n"
        "$Elements\n1 1 1 1\n3 1 4 1\n1 1 2 3 4\n$EndElements\n"
    ).encode()


def _older_gmsh() -> bytes:
    corners = "".join(f"{n} {x} {y} {z}\n" for n, (x, y, z) in enumerate(CORNERS, start=1))
    return (
        "$MeshFormat\n2.2 0 8\n$EndMeshFormat\n"
        f"$Nodes\n4\n{corners}$EndNodes\n$Elements\n1\n1 4 2 0 1 1 2 3 4\n$EndElements\n"
    ).encode()


def _png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(768, dtype=np.uint8).reshape(16, 16, 3)).save(file, "PNG")
    return file.getvalue()


def _ktx() -> bytes:
    """The head of a KTX 1.1 of 4 x 4 pixels, and the pixels."""
    head = struct.pack("<13I", 0x04030201, 0x1401, 1, 0x1907, 0x8051, 0x1907, 4, 4, 0, 0, 1, 1, 0)
    return b"\xabKTX 11\xbb\r\n\x1a\n" + head + struct.pack("<I", 48) + bytes(48)


FILES = {
    "meshes/tetra.obj": _obj(),
    "meshes/tetra.stl": _stl(),
    "wood.png": _png(),
    "hills.bin": struct.pack("<ii", 4, 4) + np.linspace(0, 1, 16, dtype=np.float32).tobytes(),
    "tetra.msh": _legacy_mesh(),
    "tetra.skn": _skin(),
    "solid.msh": _gmsh(),
    "older.msh": _older_gmsh(),
    "quads.obj": _obj_of_quads(),
    "sky.ktx": _ktx(),
}
