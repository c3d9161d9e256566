import assert from "node:assert/strict";
import { test } from "node:test";
import { Vector3 } from "three";
import type { Vec3 } from "../api/types";
import { pathGeometry } from "./predictedPath";

const POINTS: Vec3[] = [
  [0.4, 0, 0.3],
  [0.42, 0.01, 0.25],
  [0.45, 0.05, 0.2],
];

/** The alpha of the vertices within 2 mm of a point. */
function alphasAt(points: Vec3[], place: Vec3): number[] {
  const geometry = pathGeometry(points, 0.001);
  const [positions, colors] = [geometry.getAttribute("position"), geometry.getAttribute("color")];
  return Array.from({ length: positions.count }, (_, vertex) => vertex)
    .filter((vertex) => new Vector3().fromBufferAttribute(positions, vertex).distanceTo(new Vector3(...place)) < 0.002)
    .map((vertex) => colors.getW(vertex));
}

test("the path is opaque where it begins and faint where it ends", () => {
  const [begin, end] = [alphasAt(POINTS, POINTS[0] as Vec3), alphasAt(POINTS, POINTS[2] as Vec3)];
  assert.ok(begin.length > 0 && begin.every((alpha) => alpha > 0.8));
  assert.ok(end.length > 0 && end.every((alpha) => alpha < 0.3));
});

test("an end effector that stays in one place has a path of beads without numbers that are not finite", () => {
  const positions = pathGeometry([POINTS[0], POINTS[0], POINTS[0]] as Vec3[], 0.001).getAttribute("position");
  assert.ok(positions.array.every(Number.isFinite));
});

test("a single point is a path", () => {
  assert.ok(pathGeometry([POINTS[0] as Vec3], 0.001).getAttribute("position").count > 0);
});
