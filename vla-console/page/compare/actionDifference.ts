// How far two episodes' actions are apart, at each time when either begins a new one.

export interface TimedAction {
  /** Simulated time at which the action begins [s]. */
  time: number;
  /** dx dy dz [m], droll dpitch dyaw [rad], gripper (1 open, 0 closed). */
  action: number[];
}

/** Times are sums of floats. */
const EPSILON_S = 1e-6;

export interface ActionDifference {
  times: number[];
  /** Distance between the two motions [mm]. */
  translation: number[];
  /** Distance between the two rotations' vectors [mrad]. */
  rotation: number[];
  /** Distance between the two gripper commands, 0 to 1. */
  gripper: number[];
}

/** Compare what both sides do at the same time, up to `end`; an action holds until the side's next one. */
export function actionDifference(a: TimedAction[], b: TimedAction[], end: number): ActionDifference {
  const difference: ActionDifference = { times: [], translation: [], rotation: [], gripper: [] };
  const [before, other] = [a, b].map((steps) => steps.filter((step) => step.time < end - EPSILON_S)) as [
    TimedAction[],
    TimedAction[],
  ];
  const times = [...new Set([...[...before, ...other].map((step) => step.time), end])].sort((x, y) => x - y);
  for (const time of times) {
    const [first, second] = [actionAt(before, time), actionAt(other, time)];
    if (first === null || second === null) continue;
    difference.times.push(time);
    difference.translation.push(1000 * distance(first, second, 0, 3));
    difference.rotation.push(1000 * distance(first, second, 3, 6));
    difference.gripper.push(distance(first, second, 6, 7));
  }
  return difference;
}

function actionAt(steps: TimedAction[], time: number): number[] | null {
  return steps.findLast((step) => step.time <= time)?.action ?? null;
}

function distance(a: number[], b: number[], from: number, to: number): number {
  return Math.hypot(...a.slice(from, to).map((value, i) => value - (b[from + i] ?? 0)));
}
