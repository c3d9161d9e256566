import assert from "node:assert/strict";
import { test } from "node:test";
import { median, signTest, wilsonInterval } from "./statistics";

function near(value: number | null | undefined, expected: number, tolerance = 5e-5) {
  assert.ok(value !== null && value !== undefined && Math.abs(value - expected) < tolerance, `${value} != ${expected}`);
}

test("Wilson's interval has the published values", () => {
  const known: [number, number, number, number][] = [
    [0, 10, 0, 0.2775],
    [5, 10, 0.2366, 0.7634],
    [10, 10, 0.7225, 1],
    [81, 263, 0.2553, 0.3662],
    [15, 148, 0.0624, 0.1605],
    [1, 29, 0.0061, 0.1718],
  ];
  for (const [successes, trials, low, high] of known) {
    near(wilsonInterval(successes, trials)?.low, low);
    near(wilsonInterval(successes, trials)?.high, high);
  }
});

test("an interval of all or none reaches the end exactly", () => {
  assert.equal(wilsonInterval(10, 10)?.high, 1);
  assert.equal(wilsonInterval(0, 7)?.low, 0);
});

test("no trials give no interval", () => {
  assert.equal(wilsonInterval(0, 0), null);
});

test("the sign test has the binomial's values, whichever side wins", () => {
  near(signTest(9, 1), 0.021484, 1e-6);
  near(signTest(1, 9), 0.021484, 1e-6);
  near(signTest(5, 0), 0.0625, 1e-9);
  near(signTest(1000, 900), 0.02312, 1e-4);
});

test("an even split is no evidence, and no decision is no test", () => {
  assert.equal(signTest(4, 4), 1);
  assert.equal(signTest(0, 0), null);
});

test("the median of an even count is the mean of the middle two", () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 2, 3]), 2.5);
  assert.equal(median([]), null);
});
