// A scene with all that is made for it and goes with it: materials, light, ghost and outlines.

import type { Object3D, Scene } from "three";
import { Vector3 } from "three";
import { Ghost } from "./ghost";
import { Lighting } from "./lighting";
import { SceneMaterials } from "./materials";
import { type OutlineKind, Outlines } from "./outlines";
import type { Quality } from "./quality";
import type { SceneModel } from "./sceneModel";
import type { Mark, SceneBody } from "./viewer";

export class LoadedScene {
  readonly model: SceneModel;
  readonly ghost: Ghost;
  /** The diagonal of the box around what moves [m]: how large things that are drawn into the scene should be. */
  readonly size: number;
  readonly #materials: SceneMaterials;
  readonly #lighting: Lighting;
  readonly #outlines: Outlines;

  constructor(model: SceneModel) {
    this.model = model;
    this.size = model.box.getSize(new Vector3()).length();
    this.ghost = new Ghost(model);
    this.#materials = new SceneMaterials([...model.meshes.values()].flat());
    this.#lighting = new Lighting(model);
    this.#outlines = new Outlines(model, 0.0032 * this.size);
  }

  addTo(scene: Scene): void {
    scene.add(this.model.world, this.#lighting.group, this.ghost.group);
  }

  applyQuality(quality: Quality, maxAnisotropy: number): void {
    this.#materials.apply(quality, maxAnisotropy);
    this.#lighting.apply(quality);
  }

  /** Outline the selected body and the marked ones; a violation is shown before the selection, a contact after it. */
  outline(selected: number | null, marks: Mark[]): void {
    const kinds = new Map<number, OutlineKind>();
    const markAll = (kind: Mark["kind"]) => {
      for (const mark of marks) {
        const body = mark.kind === kind ? this.bodyOf(mark.body) : undefined;
        if (body !== undefined && !body.isStatic) kinds.set(body.id, kind); // Not the whole table that something touches.
      }
    };
    markAll("contact");
    if (selected !== null) kinds.set(selected, "selection");
    markAll("violation");
    this.#outlines.set(kinds);
  }

  bodyOf(name: string): SceneBody | undefined {
    return this.model.info.bodies.find((body) => body.name === name);
  }

  objectOf(name: string): Object3D | undefined {
    return this.model.bodies.get(this.bodyOf(name)?.id ?? -1);
  }

  nameOf(id: number): string {
    return this.model.info.bodies.find((body) => body.id === id)?.name ?? "";
  }

  /** Take it out of its scene and free its memory on the GPU. */
  dispose(): void {
    for (const part of [this.model.world, this.#lighting.group, this.ghost.group]) part.removeFromParent();
    for (const part of [this.#outlines, this.ghost, this.#lighting, this.#materials, this.model]) part.dispose();
  }
}
