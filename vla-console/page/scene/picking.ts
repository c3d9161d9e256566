// Which free body the pointer is on.

import { type Camera, type Object3D, Raycaster, Vector2, Vector3 } from "three";
import type { SceneModel } from "./sceneModel";

/** How near a finger must come to a small object [px]. */
const FINGER = 24;

export interface BodyHit {
  id: number;
  point: Vector3;
}

export class Picker {
  readonly raycaster = new Raycaster();
  readonly #element: HTMLElement;

  constructor(element: HTMLElement) {
    this.#element = element;
  }

  /** Aim the ray at a pointer's place on the page. */
  aim({ clientX, clientY }: PointerEvent, camera: Camera): void {
    const { left, top, width, height } = this.#element.getBoundingClientRect();
    const pointer = new Vector2(((clientX - left) / width) * 2 - 1, 1 - ((clientY - top) / height) * 2);
    this.raycaster.setFromCamera(pointer, camera);
  }

  /** The free body that the ray meets first; null where something stands before it. */
  freeBody(model: SceneModel): BodyHit | null {
    const free = model.info.bodies.filter(({ isFree }) => isFree).map(({ id }) => id);
    const hit = this.#nearest(model, free);
    if (hit === null) return null;
    // Only now the many triangles of the robot, and only up to the object.
    this.raycaster.far = hit.point.distanceTo(this.raycaster.ray.origin) * 0.999;
    const others = [...model.bodies.keys()].filter((id) => !free.includes(id));
    const before = this.#nearest(model, others);
    this.raycaster.far = Number.POSITIVE_INFINITY;
    return before === null ? hit : null;
  }

  /** The free body within a finger's width of the pointer. */
  freeBodyNear({ clientX, clientY }: PointerEvent, model: SceneModel, camera: Camera): BodyHit | null {
    const near = model.info.bodies.flatMap(({ id, isFree }) => {
      const point = (model.bodies.get(id) as Object3D).position.clone();
      const seen = isFree ? this.onPage(point, camera) : null;
      return seen === null ? [] : [{ id, point, distance: Math.hypot(clientX - seen.x, clientY - seen.y) }];
    });
    const [nearest] = near.sort((a, b) => a.distance - b.distance);
    return nearest !== undefined && nearest.distance <= FINGER ? nearest : null;
  }

  /** Where on the page a point of the scene is seen [px]; null when it is behind the eye. */
  onPage(point: Vector3, camera: Camera): { x: number; y: number } | null {
    const { left, top, width, height } = this.#element.getBoundingClientRect();
    const { x, y, z } = point.clone().project(camera);
    return z < 1 ? { x: left + ((x + 1) / 2) * width, y: top + ((1 - y) / 2) * height } : null;
  }

  #nearest(model: SceneModel, ids: number[]): BodyHit | null {
    const owner = new Map(
      ids.flatMap((id) => (model.meshes.get(id) ?? []).map((mesh) => [mesh as Object3D, id] as const)),
    );
    const [hit] = this.raycaster.intersectObjects([...owner.keys()], false);
    return hit === undefined ? null : { id: owner.get(hit.object) as number, point: new Vector3().copy(hit.point) };
  }
}
