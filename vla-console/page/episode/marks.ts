// What is worth a mark on the timeline.

import type { ChangeEvent, EndEvent, StartEvent, StepEvent } from "../api/types";
import { describe as describeViolation } from "./motion";

export interface Mark {
  kind: "chunk" | "change" | "violation" | "success";
  /** Seconds since the episode's start. */
  time: number;
  title: string;
}

/** More marks of chunks than this say nothing. */
const MAX_CHUNK_MARKS = 100;

/** Return the marks of an episode in order of time. */
export function timelineMarks(
  start: StartEvent | null,
  steps: readonly StepEvent[],
  changes: readonly ChangeEvent[],
  end: EndEvent | null,
): Mark[] {
  const times = stepTimes(start, steps);
  const before = (index: number) => times[index] ?? times.at(-1) ?? 0;
  const marks: Mark[] = [];
  const showsChunks = steps.length <= MAX_CHUNK_MARKS;
  steps.forEach((step, index) => {
    if (step.chunk && showsChunks)
      marks.push({ kind: "chunk", time: before(index), title: `chunk at step ${step.index}` });
    for (const violation of step.violations.slice(0, 1)) {
      marks.push({ kind: "violation", time: before(index), title: describeViolation(violation) });
    }
  });
  for (const change of changes) {
    const title = changeTitle(change);
    if (title) marks.push({ kind: "change", time: before(change.step), title });
  }
  const refused = end?.rejected?.flatMap(({ violations }) => violations)[0];
  if (refused)
    marks.push({ kind: "violation", time: times.at(-1) ?? 0, title: `refused: ${describeViolation(refused)}` });
  if (end?.success) marks.push({ kind: "success", time: times.at(-1) ?? 0, title: "success" });
  return marks.sort((a, b) => a.time - b.time);
}

/** Return when each action begins, and after them when the last one ends [s since the start]. */
export function stepTimes(start: StartEvent | null, steps: readonly StepEvent[]): number[] {
  const first = start?.state.time ?? 0;
  return [0, ...steps.map((step) => step.state.time - first)];
}

function changeTitle({ instruction, bodies }: ChangeEvent): string {
  const parts = [];
  if (instruction) parts.push(`“${instruction}”`);
  if (bodies && Object.keys(bodies).length) parts.push(`${Object.keys(bodies).join(", ")} moved`);
  return parts.join(", ");
}
