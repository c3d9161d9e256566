import assert from "node:assert/strict";
import { test } from "node:test";
import type { ChangeEvent, EndEvent, StartEvent, StepEvent } from "../api/types";
import { timelineMarks } from "./marks";

const start = { state: { time: 10 } } as StartEvent;
const step = (index: number, more: Partial<StepEvent> = {}) =>
  ({ index, violations: [], state: { time: 10.2 + 0.2 * index }, ...more }) as unknown as StepEvent;

test("a chunk is marked where its first action begins", () => {
  const marks = timelineMarks(start, [step(0, { chunk: [[1]] }), step(1), step(2, { chunk: [[1]] })], [], null);
  assert.deepEqual(
    marks.map(({ kind, time }) => [kind, Number(time.toFixed(3))]),
    [
      ["chunk", 0],
      ["chunk", 0.4],
    ],
  );
});

test("changes, violations and success are marked; a pause is not", () => {
  const violations = [{ kind: "workspace" as const, what: "x", value: 0.9, limit: 0.8 }];
  const changes = [
    { step: 1, status: "paused" },
    { step: 1, bodies: { red_cube: {} } },
  ] as unknown as ChangeEvent[];
  const end = { success: true } as EndEvent;
  const marks = timelineMarks(start, [step(0), step(1, { violations })], changes, end);
  assert.deepEqual(
    marks.map((mark) => mark.title),
    ["workspace x: 0.9 m, limit 0.8 m", "red_cube moved", "success"],
  );
});

test("a refused chunk is a mark at the end", () => {
  const violation = { kind: "contact" as const, what: "hand and table", value: 130, limit: 100 };
  const rejected = [{ ...step(0), violations: [violation] }];
  const end = { reason: "rejected" as const, num_steps: 1, success: false, duration_ms: 1, rejected, recordings: {} };
  const [mark] = timelineMarks(start, [step(0)], [], end).filter(({ kind }) => kind === "violation");
  assert.equal(mark?.title, "refused: contact hand and table: 130 N, limit 100 N");
});
