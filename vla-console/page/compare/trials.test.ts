import assert from "node:assert/strict";
import { test } from "node:test";
import { comparePairs, emptyTrials, type Outcome, summarize, type Trial, trialsCsv } from "./trials";

function outcome(status: Outcome["status"], steps = 10, predictMs: number | null = 8): Outcome {
  return { status, reason: status === "success" ? "success" : "max_steps", steps, predictMs, link: null };
}

function trial(seed: number, A: Outcome | null, B: Outcome | null): Trial {
  return { seed, outcomes: { A, B } };
}

const trials = [
  trial(0, outcome("success", 10), outcome("failure")),
  trial(1, outcome("success", 20), outcome("success")),
  trial(2, outcome("failure", 75), outcome("error")),
  trial(3, outcome("running"), null),
];

test("running trials and errors are not counted as tried", () => {
  const summary = summarize(trials, "B");
  assert.deepEqual([summary.successes, summary.tried, summary.errors], [1, 2, 1]);
  assert.equal(summarize(trials, "A").rate, 2 / 3);
});

test("steps are the median of the successes", () => {
  assert.equal(summarize(trials, "A").steps, 15);
});

test("a side without trials has no rate and no interval", () => {
  const summary = summarize(emptyTrials(3, 5), "A");
  assert.equal(summary.rate, null);
  assert.equal(summary.interval, null);
});

test("only placements that both sides finished are paired", () => {
  assert.deepEqual(comparePairs(trials), { num: 2, both: 1, onlyA: 1, onlyB: 0, neither: 0, p: 1 });
});

test("placements are numbered from the first seed", () => {
  assert.deepEqual(
    emptyTrials(2, 7).map((row) => row.seed),
    [7, 8],
  );
});

test("the CSV has a row for each side and quotes what needs it", () => {
  const text = trialsCsv([trial(3, outcome("success"), null)], { A: "x, horizon 1", B: 'say "y"' }, "push_left");
  assert.deepEqual(text.split("\r\n"), [
    "task,seed,side,settings,status,reason,steps,predict_ms",
    'push_left,3,A,"x, horizon 1",success,success,10,8',
    'push_left,3,B,"say ""y""",,,,',
    "",
  ]);
});
