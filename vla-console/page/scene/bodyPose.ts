// Poses as the server writes them (x y z, w i j k; world frame, z up) on three.js objects, which keep w last.

import type { Object3D } from "three";
import type { Pose } from "../api/types";

/** Place `object`; false when it is there already, so that an unchanged pose causes no drawing. */
export function place(object: Object3D, [x, y, z, w, i, j, k]: Pose): boolean {
  const { position: p, quaternion: q } = object;
  if (p.x === x && p.y === y && p.z === z && q.w === w && q.x === i && q.y === j && q.z === k) return false;
  p.set(x, y, z);
  q.set(i, j, k, w);
  object.updateMatrix();
  return true;
}

export function poseOf({ position: p, quaternion: q }: Object3D): Pose {
  return [p.x, p.y, p.z, q.w, q.x, q.y, q.z];
}
