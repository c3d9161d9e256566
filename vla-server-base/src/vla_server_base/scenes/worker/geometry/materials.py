"""MuJoCo's materials as glTF's: roughness from shininess, and colours in linear light."""

from typing import Any, final

import mujoco
import numpy as np

from vla_server_base.scenes.worker.geometry.numbers import number, numbers
from vla_server_base.scenes.worker.geometry.textures import PlacedTexture, Textures
from vla_server_base.scenes.worker.rendering.raycast.materials import read_materials

SHININESS_EXPONENT = 128
"""MuJoCo's exponent of a highlight at shininess 1, as OpenGL's largest."""


@final
class GltfMaterials:
    """The materials of a file's geoms, each written once."""

    def __init__(self, model: mujoco.MjModel, textures: Textures):
        self._model, self._textures = model, textures
        self._read = read_materials(model)
        self._indices: dict[tuple[int, tuple[float, ...]], int] = {}
        self.materials: list[dict[str, Any]] = []

    def is_drawn(self, geom: int) -> bool:
        """Return whether anything of a geom can be seen."""
        return bool(self._read.rgba[3, geom] > 0)

    def add(self, geom: int) -> int:
        """Return the index of a geom's material, which is now in the file."""
        key = int(self._model.geom_matid[geom]), tuple(self._read.rgba[:, geom].tolist())
        if key not in self._indices:
            self._indices[key] = len(self.materials)
            self.materials.append(self._content(geom))
        return self._indices[key]

    def texture(self, geom: int) -> PlacedTexture | None:
        """Return the texture of a geom's colour."""
        material = int(self._model.geom_matid[geom])
        if material < 0:
            return None
        texture = int(self._model.mat_texid[material, mujoco.mjtTextureRole.mjTEXROLE_RGB])
        return None if texture < 0 else self._textures.add(texture)

    def _content(self, geom: int) -> dict[str, Any]:
        material, texture = int(self._model.geom_matid[geom]), self.texture(geom)
        rgba = self._read.rgba[:, geom].astype(float)
        metallic, roughness = self._metallic_roughness(geom)
        base: dict[str, Any] = {
            "baseColorFactor": [*numbers(linear(rgba[:3])), number(rgba[3])],
            "metallicFactor": metallic,
            "roughnessFactor": roughness,
        }
        content: dict[str, Any] = {"pbrMetallicRoughness": base, "extras": self._extras(geom)}
        if material >= 0:
            content["name"] = self._model.mat(material).name
        glow = np.clip(self._read.emission[geom] * rgba[:3], 0, 1)
        if glow.any():
            content["emissiveFactor"] = numbers(linear(glow))
        if texture is not None:
            base["baseColorTexture"] = {"index": texture.index}
            if glow.any():
                content["emissiveTexture"] = {"index": texture.index}
        if rgba[3] < 1:
            content["alphaMode"] = "BLEND"
        return content

    def _metallic_roughness(self, geom: int) -> tuple[float, float]:
        """Return the material's own numbers where it has them; else those whose highlight is as wide as MuJoCo's.

        The highlight of a Blinn-Phong exponent n is as wide as that of a roughness r with r^4 = 2 / (n + 2). A weak
        one becomes a dull one: glTF's highlights have one strength.
        """
        material = int(self._model.geom_matid[geom])
        reflectance = float(self._model.mat_reflectance[material]) if material >= 0 else 0.0
        metallic = float(self._model.mat_metallic[material]) if material >= 0 else -1.0
        roughness = float(self._model.mat_roughness[material]) if material >= 0 else -1.0
        if roughness < 0:
            sharpest = (2 / (SHININESS_EXPONENT * max(float(self._read.shininess[geom]), 0.0) + 2)) ** 0.25
            roughness = 1 - min(max(float(self._read.specular[geom]), 0.0), 1.0) * (1 - sharpest)
            roughness *= 1 - min(max(reflectance, 0.0), 1.0)
        return number(min(max(metallic, 0.0), 1.0)), number(min(roughness, 1.0))

    def _extras(self, geom: int) -> dict[str, float]:
        material = int(self._model.geom_matid[geom])
        return {
            "specular": number(self._read.specular[geom]),
            "shininess": number(self._read.shininess[geom]),
            "reflectance": number(self._model.mat_reflectance[material]) if material >= 0 else 0.0,
            "emission": number(self._read.emission[geom]),
        }


def linear(rgb: np.ndarray) -> np.ndarray:
    """Return colours in linear light, from sRGB, as which a screen shows MuJoCo's."""
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
