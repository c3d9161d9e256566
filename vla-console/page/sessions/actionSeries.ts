// A session's actions as plots: what was executed up to now, and the rest of the chunk ahead of it.

import type { SessionStep } from "../api/types";
import type { PlotSeries } from "../ui/plot";
import type { KeptStep } from "./sessionWatch";

export interface ActionPlot {
  title: string;
  unit: string;
  series: PlotSeries[];
  range?: [number, number];
}

interface Group {
  title: string;
  unit: string;
  names: string[];
  range?: [number, number];
}

/** An end effector's action, as most policies give it. */
const ARM: Group[] = [
  { title: "Translation", unit: "m", names: ["dx", "dy", "dz"] },
  { title: "Rotation", unit: "rad", names: ["droll", "dpitch", "dyaw"] },
  { title: "Gripper", unit: "1 open", names: ["gripper"], range: [0, 1] },
];
const COLORS = ["--x", "--y", "--z", "--gripper", "--latency", "--good", "--muted"];

/** The last steps that a plot shows. */
export const SHOWN_STEPS = 100;

/** Return the steps along the x axis, those of the chunk ahead included. */
export function stepAxis(steps: KeptStep[], last: SessionStep | null): number[] {
  const executed = steps.slice(-SHOWN_STEPS).map(({ step }) => step);
  const ahead = last === null ? [] : last.actions.slice(1).map((_, i) => last.step + 1 + i);
  return [...executed, ...ahead];
}

/** Return the plots of a session's actions: translation, rotation and gripper, or all numbers in one where they are others. */
export function actionPlots(steps: KeptStep[], last: SessionStep | null): ActionPlot[] {
  if (last === null) return [];
  return groups(last.action_names).map(({ title, unit, names, range }) => ({
    title,
    unit,
    range,
    series: names.flatMap((name, i) => {
      const color = names.length === 1 ? "--gripper" : (COLORS[i % COLORS.length] as string);
      return bothSeries(name, color, last.action_names.indexOf(name), steps.slice(-SHOWN_STEPS), last);
    }),
  }));
}

function groups(names: string[]): Group[] {
  const distinct = [...new Set(names)];
  const isArm = distinct.length === 7 && ARM.every((group) => group.names.every((name) => names.includes(name)));
  return isArm ? ARM : [{ title: "Numbers", unit: "policy's units", names: distinct }];
}

/** What was executed, and the chunk ahead, dashed, that begins where that ends. */
function bothSeries(
  label: string,
  color: string,
  dimension: number,
  steps: KeptStep[],
  last: SessionStep,
): PlotSeries[] {
  const executed = steps.map(({ action }) => action[dimension] ?? null);
  const ahead = last.actions.slice(1).map((action) => action[dimension] ?? null);
  const gap = Array<null>(Math.max(executed.length - 1, 0)).fill(null);
  return [
    { label, color, values: [...executed, ...ahead.map(() => null)] },
    { label: `${label} ahead`, color, dashed: true, values: [...gap, executed.at(-1) ?? null, ...ahead] },
  ];
}
