// Trials of a suite's task on both sides: the same placements, paired by seed, and what their successes say.

import { SIDES, type SideName } from "./side";
import { type Interval, median, signTest, wilsonInterval } from "./statistics";

export interface Outcome {
  status: "running" | "success" | "failure" | "error";
  /** Why it ended, or the server's refusal in its own words. */
  reason: string;
  steps: number;
  /** Median milliseconds of an inference; null where none was made. */
  predictMs: number | null;
  /** A fragment that opens this trial in the run view. */
  link: string | null;
}

export interface Trial {
  seed: number;
  outcomes: Record<SideName, Outcome | null>;
}

export interface SideSummary {
  successes: number;
  /** Trials that ended; errors are no trials of the policy. */
  tried: number;
  errors: number;
  rate: number | null;
  interval: Interval | null;
  /** Median steps of the successful trials. */
  steps: number | null;
  predictMs: number | null;
}

export interface Pairs {
  /** Placements that both sides finished. */
  num: number;
  both: number;
  onlyA: number;
  onlyB: number;
  neither: number;
  /** Two-sided p of the sign test over the placements where only one side succeeded. */
  p: number | null;
}

export function emptyTrials(num: number, firstSeed: number): Trial[] {
  return Array.from({ length: num }, (_, i) => ({ seed: firstSeed + i, outcomes: { A: null, B: null } }));
}

export function summarize(trials: Trial[], side: SideName): SideSummary {
  const outcomes = trials.map((trial) => trial.outcomes[side]).filter((outcome) => outcome !== null);
  const ended = outcomes.filter(isEnded);
  const successes = ended.filter((outcome) => outcome.status === "success");
  return {
    successes: successes.length,
    tried: ended.length,
    errors: outcomes.filter((outcome) => outcome.status === "error").length,
    rate: ended.length ? successes.length / ended.length : null,
    interval: wilsonInterval(successes.length, ended.length),
    steps: median(successes.map((outcome) => outcome.steps)),
    predictMs: median(ended.map((outcome) => outcome.predictMs).filter((ms) => ms !== null)),
  };
}

export function comparePairs(trials: Trial[]): Pairs {
  const pairs = trials
    .map(({ outcomes }) => SIDES.map((side) => outcomes[side]))
    .filter((pair) => pair.every((outcome) => outcome !== null && isEnded(outcome)))
    .map((pair) => pair.map((outcome) => outcome?.status === "success"));
  const count = (a: boolean, b: boolean) => pairs.filter(([first, second]) => first === a && second === b).length;
  const [onlyA, onlyB] = [count(true, false), count(false, true)];
  return {
    num: pairs.length,
    both: count(true, true),
    onlyA,
    onlyB,
    neither: count(false, false),
    p: signTest(onlyA, onlyB),
  };
}

/** Return the trials as CSV, a row for each side of each placement. */
export function trialsCsv(trials: Trial[], sideNames: Record<SideName, string>, task: string): string {
  const head = ["task", "seed", "side", "settings", "status", "reason", "steps", "predict_ms"];
  const rows = trials.flatMap(({ seed, outcomes }) =>
    SIDES.map((side) => {
      const outcome = outcomes[side];
      const result = outcome ? [outcome.status, outcome.reason, outcome.steps, outcome.predictMs] : ["", "", "", ""];
      return [task, seed, side, sideNames[side], ...result];
    }),
  );
  return [head, ...rows].map((row) => `${row.map(csvField).join(",")}\r\n`).join("");
}

function csvField(value: string | number | null): string {
  const text = value === null ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function isEnded(outcome: Outcome): boolean {
  return outcome.status === "success" || outcome.status === "failure";
}
