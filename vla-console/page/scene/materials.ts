// The scene's materials at each quality: as the scene says on a GPU, the cheapest lit ones on software WebGL.

import { type Material, type Mesh, MeshLambertMaterial, MeshStandardMaterial, type Texture } from "three";
import type { Quality } from "./quality";

export class SceneMaterials {
  readonly #originals: Map<Mesh, Material>;
  readonly #cheap = new Map<Material, Material>();

  constructor(meshes: Mesh[]) {
    this.#originals = new Map(meshes.map((mesh) => [mesh, mesh.material as Material]));
  }

  apply(quality: Quality, anisotropy: number): void {
    for (const [mesh, original] of this.#originals) {
      mesh.material = quality === "high" ? original : this.#cheapOf(original);
      mesh.castShadow = quality === "high" && !original.transparent;
      mesh.receiveShadow = quality === "high";
      const texture = textureOf(original);
      if (texture === null) continue;
      texture.anisotropy = quality === "high" ? Math.min(8, anisotropy) : 1;
      texture.needsUpdate = true;
    }
  }

  dispose(): void {
    for (const material of [...this.#originals.values(), ...this.#cheap.values()]) {
      textureOf(material)?.dispose();
      material.dispose();
    }
  }

  #cheapOf(original: Material): Material {
    if (!(original instanceof MeshStandardMaterial)) return original;
    const known = this.#cheap.get(original);
    if (known !== undefined) return known;
    const { color, map, emissive, opacity, transparent, side, vertexColors, depthWrite, alphaTest } = original;
    const material = new MeshLambertMaterial({
      color,
      map,
      emissive,
      opacity,
      transparent,
      side,
      vertexColors,
      depthWrite,
      alphaTest,
    });
    this.#cheap.set(original, material);
    return material;
  }
}

function textureOf(material: Material): Texture | null {
  return material instanceof MeshStandardMaterial || material instanceof MeshLambertMaterial ? material.map : null;
}
