// Where a pointer's ray takes an object that is dragged: over a horizontal plane, along a vertical line, or around it.

import { Plane, type Ray, Vector3 } from "three";

/** Where the ray meets the horizontal plane at `height`, at most `reach` from `center`; null when it points away. */
export function onPlane(ray: Ray, height: number, center: Vector3, reach: number): Vector3 | null {
  const point = ray.intersectPlane(new Plane(new Vector3(0, 0, 1), -height), new Vector3());
  if (point === null) return null;
  const offset = point.sub(center).setZ(0).clampLength(0, reach);
  return offset.add(center).setZ(height);
}

/** The height on the vertical line through `point` that is nearest to the ray. */
export function onVertical(ray: Ray, point: Vector3): number | null {
  const slope = ray.direction.z;
  const steepness = 1 - slope * slope;
  if (steepness < 1e-6) return null;
  const offset = ray.origin.clone().sub(point);
  return point.z + (offset.z - slope * offset.dot(ray.direction)) / steepness;
}

/** The angle [rad] about the vertical line through `center` at which the ray meets the plane at `center`'s height. */
export function aroundVertical(ray: Ray, center: Vector3): number | null {
  const point = ray.intersectPlane(new Plane(new Vector3(0, 0, 1), -center.z), new Vector3());
  return point === null ? null : Math.atan2(point.y - center.y, point.x - center.x);
}
