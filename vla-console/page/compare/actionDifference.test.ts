import assert from "node:assert/strict";
import { test } from "node:test";
import { actionDifference } from "./actionDifference";

const still = [0, 0, 0, 0, 0, 0, 1];

test("equal actions differ by nothing", () => {
  const steps = [0, 0.2, 0.4].map((time) => ({ time, action: still }));
  assert.deepEqual(actionDifference(steps, steps, 0.6), {
    times: [0, 0.2, 0.4, 0.6],
    translation: [0, 0, 0, 0],
    rotation: [0, 0, 0, 0],
    gripper: [0, 0, 0, 0],
  });
});

test("an action holds until the next where the rates differ", () => {
  const slow = [
    { time: 0, action: still },
    { time: 0.4, action: [0.003, 0.004, 0, 0, 0, 0.5, 0] },
  ];
  const fast = [0, 0.2, 0.4].map((time) => ({ time, action: still }));
  assert.deepEqual(actionDifference(slow, fast, 0.6), {
    times: [0, 0.2, 0.4, 0.6],
    translation: [0, 0, 5, 5],
    rotation: [0, 0, 500, 500],
    gripper: [0, 0, 1, 1],
  });
});

test("the comparison ends where the shorter episode ends", () => {
  const short = [{ time: 0, action: still }];
  const long = [0, 0.2, 0.4].map((time) => ({ time, action: still }));
  assert.deepEqual(actionDifference(short, long, 0.2).times, [0, 0.2]);
  assert.deepEqual(actionDifference([], long, 0).times, []);
});

test("an action that only one side has begun is not compared with the other's last", () => {
  const ahead = [still, still, [0.1, 0, 0, 0, 0, 0, 1]].map((action, index) => ({ time: 0.2 * index, action }));
  const behind = [0, 0.2].map((time) => ({ time, action: still }));
  assert.deepEqual(actionDifference(ahead, behind, 0.4).translation, [0, 0, 0]);
});
