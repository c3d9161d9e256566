import assert from "node:assert/strict";
import { test } from "node:test";
import { PerspectiveCamera, Vector3 } from "three";
import { fitFov, framePoints } from "./framing";

const POINTS = [new Vector3(0, 0, 0), new Vector3(0, 0.2, 0.9), new Vector3(0.6, -0.3, 0), new Vector3(0.5, 0.3, 0.4)];

function seenBy(aspect: number): Vector3[] {
  const camera = new PerspectiveCamera(40, aspect, 0.01, 100);
  const { position, target } = framePoints(POINTS, new Vector3(1, 0, 0), 40, aspect);
  camera.up.set(0, 0, 1);
  camera.position.copy(position);
  camera.lookAt(target);
  camera.updateMatrixWorld();
  return POINTS.map((point) => point.clone().project(camera));
}

for (const [shape, aspect] of [
  ["a wide", 1.9],
  ["a phone's", 0.46],
] as const) {
  test(`${shape} view shows all points and is filled by them`, () => {
    const seen = seenBy(aspect);
    for (const { x, y, z } of seen) assert.ok(Math.abs(x) < 1 && Math.abs(y) < 1 && z < 1);
    const reach = Math.max(...seen.map(({ x, y }) => Math.max(Math.abs(x), Math.abs(y))));
    assert.ok(reach > 0.6);
  });
}

test("the first viewpoint is in front of the robot and above it, with z up", () => {
  const { position, target } = framePoints(POINTS, new Vector3(1, 0, 0), 40, 1.5);
  assert.ok(position.x > target.x);
  assert.ok(position.z > target.z);
  const [foot, head] = seenBy(1.5);
  assert.ok((head?.y ?? 0) > (foot?.y ?? 0));
});

test("a view narrower than a camera's image shows its whole width", () => {
  assert.equal(fitFov(60, 1, 1.5), 60);
  assert.ok(fitFov(60, 1, 0.5) > 90);
});
