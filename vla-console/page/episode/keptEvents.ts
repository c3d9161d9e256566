// What a page keeps of an episode: every step's numbers, and images and predicted poses up to a bound of bytes.

import type { Motion, StepEvent } from "../api/types";

const MAX_KEPT_MB = 64;

/** Return the bound: 64 MB of each episode, or what the page's address asks for: `?keep_mb=16`. */
export function maxKeptBytes(): number {
  const given = typeof location === "undefined" ? null : new URLSearchParams(location.search).get("keep_mb");
  const megabytes = Number(given);
  return (megabytes > 0 ? megabytes : MAX_KEPT_MB) * 1024 * 1024;
}

/** Takes the images and predicted poses of the oldest steps away once all together exceed the bound. */
export class KeptEvents {
  bytes = 0;
  #first = 0;

  constructor(readonly maxBytes = maxKeptBytes()) {}

  /** Count the last of `steps`, and lighten the first ones as far as needed. */
  bound(steps: readonly StepEvent[]): void {
    const last = steps.at(-1);
    if (last === undefined) return;
    this.bytes += heavyBytes(last);
    while (this.bytes > this.maxBytes && this.#first < steps.length - 1) {
      const oldest = steps[this.#first++] as StepEvent;
      this.bytes -= heavyBytes(oldest);
      lighten(oldest);
    }
  }
}

/** Return the bytes of a step's images (base64, a byte a character) and of its predicted poses. */
export function heavyBytes(step: StepEvent): number {
  const images = Object.values(step.images ?? {}).reduce((sum, image) => sum + image.length, 0);
  return images + (step.preview ?? []).reduce((sum, motion) => sum + poseBytes(motion), 0);
}

function poseBytes({ poses }: Motion): number {
  return poses ? poses.frames.length * (poses.frames[0]?.length ?? 0) * 7 * 8 : 0;
}

function lighten(step: StepEvent): void {
  step.images = null;
  for (const motion of step.preview ?? []) motion.poses = null;
}
