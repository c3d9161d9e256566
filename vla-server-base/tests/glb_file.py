"""A reader of binary glTF 2.0, written from the specification alone, which checks what it reads."""

import io
import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

COMPONENTS = {5121: "<u1", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
SIZES = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}


@dataclass(frozen=True)
class GlbFile:
    document: dict[str, Any]
    binary: bytes

    @property
    def nodes(self) -> list[dict[str, Any]]:
        return self.document["nodes"]

    @property
    def root(self) -> dict[str, Any]:
        ((root,),) = [scene["nodes"] for scene in self.document["scenes"]]
        return self.nodes[root]

    @property
    def extras(self) -> dict[str, Any]:
        return self.document["scenes"][self.document["scene"]]["extras"]

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [self.nodes[child] for child in self.root["children"]]

    def children(self, node: dict[str, Any], kind: str) -> list[dict[str, Any]]:
        """The children of a node with extras of a kind: geom, camera, light."""
        nodes = [self.nodes[child] for child in node.get("children", [])]
        return [each for each in nodes if kind in each["extras"]]

    def all(self, kind: str) -> dict[int, tuple[dict[str, Any], dict[str, Any]]]:
        """All geoms, cameras or lights by their numbers, each with its body's node."""
        pairs = [(body, each) for body in self.bodies for each in self.children(body, kind)]
        return {each["extras"][kind]: (body, each) for body, each in pairs}

    def primitive(self, node: dict[str, Any]) -> dict[str, Any]:
        (primitive,) = self.document["meshes"][node["mesh"]]["primitives"]
        return primitive

    def material(self, node: dict[str, Any]) -> dict[str, Any]:
        return self.document["materials"][self.primitive(node)["material"]]

    def attribute(self, node: dict[str, Any], name: str) -> np.ndarray:
        return self.values(self.primitive(node)["attributes"][name])

    def faces(self, node: dict[str, Any]) -> np.ndarray:
        return self.values(self.primitive(node)["indices"]).astype(int).reshape(-1, 3)

    def triangles(self, node: dict[str, Any]) -> np.ndarray:
        """The corners of a geom's faces, in its body's frame."""
        points = self.attribute(node, "POSITION")[self.faces(node)].astype(float)
        return points * node.get("scale", [1, 1, 1]) @ matrix(node["rotation"]).T + node["translation"]

    def values(self, accessor: int) -> np.ndarray:
        described = self.document["accessors"][accessor]
        kind, size = np.dtype(COMPONENTS[described["componentType"]]), SIZES[described["type"]]
        content = self.view(described["bufferView"])
        assert len(content) == described["count"] * size * kind.itemsize
        return np.frombuffer(content, kind).reshape(described["count"], -1)

    def view(self, index: int) -> bytes:
        view = self.document["bufferViews"][index]
        start, end = view["byteOffset"], view["byteOffset"] + view["byteLength"]
        assert view["buffer"] == 0
        assert start % 4 == 0
        assert end <= len(self.binary)
        return self.binary[start:end]

    def image(self, texture: int) -> np.ndarray:
        """The pixels of a texture."""
        image = self.document["images"][self.document["textures"][texture]["source"]]
        assert image["mimeType"] == "image/png"
        with Image.open(io.BytesIO(self.view(image["bufferView"])), formats=["PNG"]) as opened:
            return np.asarray(opened.convert("RGB"))

    def sampler(self, texture: int) -> dict[str, int]:
        return self.document["samplers"][self.document["textures"][texture]["sampler"]]


def read_glb(content: bytes) -> GlbFile:
    """Read a file, and check all that can be wrong with its form."""
    magic, version, length = struct.unpack_from("<4sII", content)
    assert (magic, version, length) == (b"glTF", 2, len(content))
    chunks, at = [], 12
    while at < length:
        size, kind = struct.unpack_from("<I4s", content, at)
        assert size % 4 == 0
        chunks.append((kind, content[at + 8 : at + 8 + size]))
        at += 8 + size
    assert at == length
    kinds = [kind for kind, _ in chunks]
    assert kinds in ([b"JSON", b"BIN\0"], [b"JSON"])
    document = json.loads(chunks[0][1], parse_constant=_refuse)
    binary = chunks[1][1] if len(chunks) > 1 else b""
    file = GlbFile(document, binary)
    assert document["asset"]["version"] == "2.0"
    assert [each["byteLength"] for each in document.get("buffers", [])] == [len(binary)] * bool(binary)
    assert all(value not in ([], {}) for value in document.values())
    _check_meshes(file)
    _check_nodes(file)
    return file


def matrix(rotation: list[float]) -> np.ndarray:
    """The matrix of a quaternion x y z w."""
    x, y, z, w = rotation
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def placed(body: dict, node: dict) -> tuple[np.ndarray, np.ndarray]:
    """Where a child of a body is in the world, and its axes."""
    turn = matrix(body["rotation"])
    return turn @ node["translation"] + body["translation"], turn @ matrix(node["rotation"])


def _check_meshes(file: GlbFile) -> None:
    """Every accessor is used and within the buffer, has the bounds that it says, and indices of vertices that exist."""
    used = set()
    for mesh in file.document.get("meshes", []):
        for primitive in mesh["primitives"]:
            assert primitive["material"] < len(file.document["materials"])
            vertices = {name: file.values(index) for name, index in primitive["attributes"].items()}
            assert {"POSITION", "NORMAL"} <= vertices.keys() <= {"POSITION", "NORMAL", "TEXCOORD_0"}
            assert len({len(values) for values in vertices.values()}) == 1
            assert all(np.isfinite(values).all() for values in vertices.values())
            lengths = np.linalg.norm(vertices["NORMAL"], axis=1)
            np.testing.assert_allclose(lengths, 1, atol=1e-4)
            bounds = file.document["accessors"][primitive["attributes"]["POSITION"]]
            np.testing.assert_allclose(bounds["min"], vertices["POSITION"].min(axis=0), atol=1e-7)
            np.testing.assert_allclose(bounds["max"], vertices["POSITION"].max(axis=0), atol=1e-7)
            indices = file.values(primitive["indices"])
            assert len(indices) % 3 == 0
            assert indices.max() < len(vertices["POSITION"])
            used |= {*primitive["attributes"].values(), primitive["indices"]}
    assert used == set(range(len(file.document.get("accessors", []))))


def _check_nodes(file: GlbFile) -> None:
    """The nodes are one tree, whose rotations have length 1 and whose meshes, cameras and lights exist."""
    children = [child for node in file.nodes for child in node.get("children", [])]
    (root,) = file.document["scenes"][0]["nodes"]
    assert sorted([*children, root]) == list(range(len(file.nodes)))
    lights = file.document.get("extensions", {}).get("KHR_lights_punctual", {"lights": []})["lights"]
    for node in file.nodes:
        assert abs(np.linalg.norm(node["rotation"]) - 1) < 1e-6
        assert node.get("mesh", 0) < max(len(file.document.get("meshes", [])), 1)
        assert node.get("camera", 0) < max(len(file.document.get("cameras", [])), 1)
        for name, extension in node.get("extensions", {}).items():
            assert name in file.document["extensionsUsed"]
            assert extension["light"] < len(lights)


def _refuse(constant: str):
    raise AssertionError(f"the JSON holds {constant}")
