import assert from "node:assert/strict";
import { test } from "node:test";
import { niceTicks } from "./ticks";

test("ticks are round numbers within the range", () => {
  assert.deepEqual(niceTicks(-0.0216, 0.0216), [-0.02, 0, 0.02]);
  assert.deepEqual(niceTicks(0, 2.8, 4), [0, 1, 2]);
});

test("an axis has at least two ticks", () => {
  assert.ok(niceTicks(-0.048, 0.045).length >= 2);
});

test("an empty range has one tick", () => {
  assert.deepEqual(niceTicks(3, 3), [3]);
});
