import assert from "node:assert/strict";
import { test } from "node:test";
import { Object3D, Vector3 } from "three";
import type { Pose } from "../api/types";
import { place, poseOf } from "./bodyPose";

const HALF = Math.SQRT1_2;
/** A quarter turn about z, which is up. */
const TURNED: Pose = [0.5, -0.1, 0.025, HALF, 0, 0, HALF];

test("a quaternion with w first turns the body as the server means it", () => {
  const body = new Object3D();
  place(body, TURNED);
  const forward = new Vector3(1, 0, 0).applyMatrix4(body.matrix).sub(body.position);
  assert.ok(forward.distanceTo(new Vector3(0, 1, 0)) < 1e-12);
  assert.deepEqual(poseOf(body), TURNED);
});

test("only a pose that differs is a change", () => {
  const body = new Object3D();
  assert.equal(place(body, TURNED), true);
  assert.equal(place(body, TURNED), false);
});
