// What a motion touched and violated, in words.

import type { Motion, Violation } from "../api/types";

const UNITS: Record<Violation["kind"], string> = { joint: "", velocity: "/s", workspace: "m", contact: "N" };

/** Return a violation as "contact hand and table: 130 N, limit 100 N". */
export function describe({ kind, what, value, limit }: Violation): string {
  const unit = UNITS[kind] ? ` ${UNITS[kind]}` : "";
  return `${kind} ${what}: ${rounded(value)}${unit}, limit ${rounded(limit)}${unit}`;
}

/** Return the free bodies that the robot touches, each with what touches it. */
export function touchedBodies(motion: Motion, freeBodies: ReadonlySet<string>): Map<string, Set<string>> {
  const touching = new Map<string, Set<string>>();
  for (const { bodies } of motion.contacts) {
    const object = bodies.find((body) => freeBodies.has(body));
    const other = bodies.find((body) => body !== object);
    if (object === undefined || other === undefined || freeBodies.has(other)) continue;
    touching.set(object, (touching.get(object) ?? new Set()).add(other));
  }
  return touching;
}

/** Return what the gripper does: holds a body that it touches from two sides, touches one, or is open or closed. */
export function graspState(motion: Motion, freeBodies: ReadonlySet<string>): string {
  const touching = touchedBodies(motion, freeBodies);
  const isClosed = motion.gripper < 0.5;
  for (const [object, others] of touching) if (isClosed && others.size > 1) return `holding ${object}`;
  const [touched] = touching.keys();
  return touched === undefined ? `gripper ${isClosed ? "closed" : "open"}` : `touching ${touched}`;
}

function rounded(value: number): string {
  return String(Number(value.toPrecision(3)));
}
