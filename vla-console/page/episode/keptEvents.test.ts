import assert from "node:assert/strict";
import { test } from "node:test";
import type { StepEvent } from "../api/types";
import { heavyBytes, KeptEvents } from "./keptEvents";

const step = (index: number) =>
  ({ index, images: { primary: "x".repeat(100) }, action: [index], preview: null }) as unknown as StepEvent;

test("the oldest steps lose their images beyond the bound, and keep their numbers", () => {
  const kept = new KeptEvents(250);
  const steps: StepEvent[] = [];
  for (let index = 0; index < 5; index++) {
    steps.push(step(index));
    kept.bound(steps);
  }
  assert.deepEqual(
    steps.map((one) => one.images !== null),
    [false, false, false, true, true],
  );
  assert.deepEqual(steps[0]?.action, [0]);
  assert.equal(kept.bytes, 200);
});

test("the last step keeps its images however large they are", () => {
  const kept = new KeptEvents(10);
  const steps = [step(0)];
  kept.bound(steps);
  assert.equal(heavyBytes(steps[0] as StepEvent), 100);
});
