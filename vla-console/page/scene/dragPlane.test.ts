import assert from "node:assert/strict";
import { test } from "node:test";
import { Ray, Vector3 } from "three";
import { aroundVertical, onPlane, onVertical } from "./dragPlane";

const ORIGIN = new Vector3(0, 0, 0);

test("an object slides to where the pointer's ray meets the table", () => {
  const ray = new Ray(new Vector3(1, 0, 1), new Vector3(-0.5, 0.2, -1).normalize());
  const point = onPlane(ray, 0, ORIGIN, 10);
  assert.ok(point !== null && point.distanceTo(new Vector3(0.5, 0.2, 0)) < 1e-9);
});

test("an object does not slide to the horizon, nor behind the eye", () => {
  const flat = new Ray(new Vector3(0, 0, 1), new Vector3(1, 0, -0.001).normalize());
  assert.equal(onPlane(flat, 0, ORIGIN, 2)?.length(), 2);
  assert.equal(onPlane(new Ray(new Vector3(0, 0, 1), new Vector3(0, 0, 1)), 0, ORIGIN, 2), null);
});

test("the height is that of the vertical line's point nearest to the ray", () => {
  const ray = new Ray(new Vector3(2, 0, 1), new Vector3(-1, 0, -0.25).normalize());
  assert.ok(Math.abs((onVertical(ray, ORIGIN) ?? 0) - 0.5) < 1e-9);
  assert.equal(onVertical(new Ray(new Vector3(1, 0, 1), new Vector3(0, 0, -1)), ORIGIN), null);
});

test("the pointer's angle is measured around the object", () => {
  const down = new Vector3(0, 0, -1);
  assert.equal(aroundVertical(new Ray(new Vector3(1, 2, 1), down), new Vector3(1, 1, 0)), Math.PI / 2);
});
