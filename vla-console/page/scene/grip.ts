// How a body in the visitor's hand follows the pointer: slid over a horizontal plane, lifted, or turned.

import { type Object3D, type Quaternion, type Ray, Vector3 } from "three";
import type { HandlePart } from "./dragHandle";
import { aroundVertical, onPlane, onVertical } from "./dragPlane";

export type Grip =
  | { part: "slide"; offset: Vector3; height: number }
  | { part: "lift"; offset: number }
  | { part: "turn"; angle: number; quaternion: Quaternion };

/** How far a body may be slid: a little farther than anything reaches, not to the horizon. */
export interface Reach {
  center: Vector3;
  distance: number;
}

export const UP = new Vector3(0, 0, 1);

/** Take a body at the point where the pointer touched it. */
export function takeBody(body: Object3D, point: Vector3): Grip {
  return { part: "slide", offset: body.position.clone().sub(point), height: point.z };
}

/** Take a body by a part of its handle; null where the ray runs along the motion. */
export function takeHandle(part: HandlePart, body: Object3D, ray: Ray): Grip | null {
  if (part === "lift") {
    const height = onVertical(ray, body.position);
    return height === null ? null : { part, offset: body.position.z - height };
  }
  const angle = aroundVertical(ray, body.position);
  return angle === null ? null : { part, angle, quaternion: body.quaternion.clone() };
}

/** Place the body where the pointer's ray takes it; false where it takes it nowhere. */
export function followPointer(grip: Grip, body: Object3D, ray: Ray, { center, distance }: Reach): boolean {
  if (grip.part === "slide") {
    const point = onPlane(ray, grip.height, center, distance);
    if (point !== null) body.position.copy(point.add(grip.offset));
    return point !== null;
  }
  if (grip.part === "lift") {
    const height = onVertical(ray, body.position);
    if (height !== null) body.position.z = height + grip.offset;
    return height !== null;
  }
  const angle = aroundVertical(ray, body.position);
  if (angle !== null) body.quaternion.setFromAxisAngle(UP, angle - grip.angle).multiply(grip.quaternion);
  return angle !== null;
}
