// The moving bodies once more, translucent, where the chunk is predicted to end.

import { Group, Mesh, MeshBasicMaterial, MeshLambertMaterial } from "three";
import type { PoseFrame } from "../api/types";
import { place } from "./bodyPose";
import type { SceneModel } from "./sceneModel";

/** Where the ghost is where the body is, the body is seen. */
const BEHIND = { polygonOffset: true, polygonOffsetFactor: 2, polygonOffsetUnits: 2 };

export class Ghost {
  readonly group = new Group();
  readonly #model: SceneModel;
  readonly #bodies = new Map<number, Group>();
  /** Drawn first, for its depth only: the ghost is one surface, not many that shine through each other. */
  readonly #depth = new MeshBasicMaterial({ colorWrite: false, transparent: true, ...BEHIND });
  readonly #material = new MeshLambertMaterial({
    color: "#7ab0ff",
    emissive: "#1f57b0",
    transparent: true,
    opacity: 0.5,
    depthWrite: false,
    ...BEHIND,
  });

  constructor(model: SceneModel) {
    this.#model = model;
    this.group.visible = false;
  }

  set(poseBodies: number[], frame: PoseFrame | null): void {
    this.group.visible = frame !== null;
    poseBodies.forEach((id, index) => {
      const pose = frame?.[index];
      if (pose !== undefined) place(this.#body(id), pose);
    });
  }

  dispose(): void {
    this.#depth.dispose();
    this.#material.dispose(); // The geometries are the scene's.
  }

  #body(id: number): Group {
    const known = this.#bodies.get(id);
    if (known !== undefined) return known;
    const body = new Group();
    body.matrixAutoUpdate = false;
    const fromWorld = this.#model.bodies.get(id)?.matrixWorld.clone().invert();
    for (const original of this.#model.meshes.get(id) ?? []) {
      for (const material of [this.#depth, this.#material]) {
        const mesh = new Mesh(original.geometry, material);
        mesh.renderOrder = material === this.#depth ? 2 : 3;
        mesh.matrixAutoUpdate = false;
        if (fromWorld) mesh.matrix.multiplyMatrices(fromWorld, original.matrixWorld);
        body.add(mesh);
      }
    }
    this.#bodies.set(id, body);
    this.group.add(body);
    return body;
  }
}
