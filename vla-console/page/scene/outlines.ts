// A coloured line around a body: the selected one, one that touches something, one that violates a bound.

import {
  BackSide,
  BufferAttribute,
  BufferGeometry,
  type Matrix4,
  Mesh,
  MeshBasicMaterial,
  type Object3D,
  Vector3,
} from "three";
import type { SceneModel } from "./sceneModel";

const COLORS = { contact: "#ffb020", selection: "#4f9dff", violation: "#ff4d4d" } as const;
export type OutlineKind = keyof typeof COLORS;

export class Outlines {
  readonly #model: SceneModel;
  readonly #width: number;
  readonly #shells = new Map<number, Mesh[]>();
  readonly #materials = new Map(
    Object.entries(COLORS).map(([kind, color]) => [kind, new MeshBasicMaterial({ color, side: BackSide, fog: false })]),
  );

  constructor(model: SceneModel, width: number) {
    this.#model = model;
    this.#width = width;
  }

  /** Draw these lines and no others. */
  set(kinds: Map<number, OutlineKind>): void {
    for (const shells of this.#shells.values()) for (const shell of shells) shell.visible = false;
    for (const [id, kind] of kinds) {
      for (const shell of this.#shellsOf(id)) {
        shell.visible = true;
        shell.material = this.#materials.get(kind) as MeshBasicMaterial;
      }
    }
  }

  dispose(): void {
    for (const shells of this.#shells.values()) for (const shell of shells) shell.geometry.dispose();
    for (const material of this.#materials.values()) material.dispose();
  }

  #shellsOf(id: number): Mesh[] {
    const known = this.#shells.get(id);
    if (known !== undefined) return known;
    const body = this.#model.bodies.get(id) as Object3D;
    const fromWorld = body.matrixWorld.clone().invert();
    const shells = (this.#model.meshes.get(id) ?? []).map((mesh) => {
      const shell = new Mesh(shellOf(mesh.geometry, fromWorld.clone().multiply(mesh.matrixWorld), this.#width));
      shell.matrixAutoUpdate = false;
      shell.raycast = () => {};
      body.add(shell);
      return shell;
    });
    this.#shells.set(id, shells);
    return shells;
  }
}

/** The surface moved outwards by `width`; corners stay closed, since vertices at one place move together. */
export function shellOf(geometry: BufferGeometry, toBody: Matrix4, width: number): BufferGeometry {
  const placed = geometry.clone().applyMatrix4(toBody);
  const [positions, normals] = [placed.getAttribute("position"), placed.getAttribute("normal")];
  const vertices = Array.from({ length: positions.count }, (_, vertex) => vertex);
  const keys = vertices.map((vertex) => placeKey(new Vector3().fromBufferAttribute(positions, vertex)));
  const sums = new Map<string, { normal: Vector3; count: number }>();
  for (const vertex of vertices) {
    const sum = sums.get(keys[vertex] as string) ?? { normal: new Vector3(), count: 0 };
    sum.normal.add(new Vector3().fromBufferAttribute(normals, vertex));
    sum.count += 1;
    sums.set(keys[vertex] as string, sum);
  }
  const moved = new Float32Array(3 * positions.count);
  for (const vertex of vertices) {
    const { normal, count } = sums.get(keys[vertex] as string) as { normal: Vector3; count: number };
    // At a corner the normals cancel in part: it moves farther, so that each of its faces moves by `width`.
    const sharpness = Math.max(normal.length() / count, 0.4);
    const outward = normal.clone().setLength(width / sharpness);
    outward.add(new Vector3().fromBufferAttribute(positions, vertex)).toArray(moved, 3 * vertex);
  }
  const shell = new BufferGeometry().setAttribute("position", new BufferAttribute(moved, 3));
  return shell.setIndex(placed.getIndex());
}

function placeKey(place: Vector3): string {
  return place
    .toArray()
    .map((x) => x.toFixed(5))
    .join();
}
