import assert from "node:assert/strict";
import { test } from "node:test";
import type { SessionStep } from "../api/types";
import { actionPlots, SHOWN_STEPS, stepAxis } from "./actionSeries";
import type { KeptStep } from "./sessionWatch";

const timing_ms = { queue: 0, infer: 5, total: 6 };

function kept(step: number, action: number[]): KeptStep {
  return { step, action, timing_ms, asked_policy: true };
}

function last(step: number, actions: number[][], action_names: string[]): SessionStep {
  const action = actions[0] ?? [];
  return {
    ...kept(step, action),
    actions,
    action_names,
    instruction: null,
    dataset: null,
    sequence: null,
    images: {},
    time: 0,
  };
}

const ARM = ["dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper"];

test("an arm's action is plotted as translation, rotation and gripper", () => {
  const plots = actionPlots([], last(0, [[1, 2, 3, 4, 5, 6, 7]], ARM));
  assert.deepEqual(
    plots.map(({ title, unit }) => `${title} [${unit}]`),
    ["Translation [m]", "Rotation [rad]", "Gripper [1 open]"],
  );
});

test("a gripper that the format repeats is plotted once", () => {
  const plots = actionPlots([], last(0, [[1, 2, 3, 4, 5, 6, 7, 7]], [...ARM, "gripper"]));
  assert.deepEqual(
    plots.map((plot) => plot.series.length),
    [6, 6, 2],
  );
});

test("other actions are plotted together", () => {
  const plots = actionPlots([], last(0, [[1, 2]], ["left", "right"]));
  assert.deepEqual(
    plots.map((plot) => plot.series.length),
    [4],
  );
});

test("the chunk ahead begins where the executed actions end", () => {
  const steps = [kept(3, [1]), kept(4, [2])];
  const now = last(4, [[2], [5], [6]], ["joint"]);
  assert.deepEqual(stepAxis(steps, now), [3, 4, 5, 6]);
  const [executed, ahead] = actionPlots(steps, now)[0]?.series ?? [];
  assert.deepEqual(executed?.values, [1, 2, null, null]);
  assert.deepEqual(ahead?.values, [null, 2, 5, 6]);
});

test("only the last steps are shown", () => {
  const steps = Array.from({ length: SHOWN_STEPS + 5 }, (_, i) => kept(i, [i]));
  const now = last(SHOWN_STEPS + 4, [[0]], ["joint"]);
  assert.equal(stepAxis(steps, now).length, SHOWN_STEPS);
  assert.equal(actionPlots(steps, now)[0]?.series[0]?.values.length, SHOWN_STEPS);
});
