import assert from "node:assert/strict";
import { test } from "node:test";
import type { StepEvent } from "../api/types";
import { actionData } from "./actionPlots";

const steps = [0, 1, 2].map((index) => ({ index, action: [index] }) as StepEvent);

test("the chunk goes on from the playhead's action, beyond what was executed", () => {
  const rows = [[10], [11], [12], [13]];
  const data = actionData(steps, [0, 0.2, 0.4, 0.6], { first: 1, rows }, 2);
  assert.deepEqual(
    data.times.map((time) => Number(time.toFixed(3))),
    [0, 0.2, 0.4, 0.6, 0.8],
  );
  assert.deepEqual(data.executed, [[0], [1], [2], null, null]);
  assert.deepEqual(data.ahead, [null, null, [11], [12], [13]]);
});

test("without a chunk there is nothing ahead", () => {
  assert.deepEqual(actionData(steps, [0, 0.2, 0.4, 0.6], null, 0).ahead, [null, null, null]);
});
