import assert from "node:assert/strict";
import { test } from "node:test";
import { reach } from "./pairRun";

test("the timeline waits for the slower side", () => {
  const sides = [
    { duration: 2, isOver: false },
    { duration: 1.2, isOver: false },
  ];
  assert.equal(reach(sides), 1.2);
});

test("a side that is over holds nobody back", () => {
  const sides = [
    { duration: 1, isOver: true },
    { duration: 1.6, isOver: false },
  ];
  assert.equal(reach(sides), 1.6);
});

test("the timeline reaches the end of the longer side when both are over", () => {
  const sides = [
    { duration: 1, isOver: true },
    { duration: 3, isOver: true },
  ];
  assert.equal(reach(sides), 3);
});
