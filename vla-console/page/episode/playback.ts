// The playhead over the pose frames that have come: it follows the end while live, and replays from anywhere.

import { computed, signal } from "@preact/signals";
import type { Pose, PoseFrame } from "../api/types";

/** How far [s] the live playhead stays behind what has come, so that motion is smooth between two events. */
const LIVE_LAG_S = 0.25;

export class Playback {
  /** Seconds since the episode's start. */
  readonly playhead = signal(0);
  /** Seconds of the episode that have come. */
  readonly duration = signal(0);
  /** The playhead follows the end; else it replays or stands. */
  readonly isLive = signal(true);
  readonly isPlaying = signal(false);
  /** More frames will come. */
  readonly isOpen = signal(false);
  /** Whether the playhead would move at the next tick. */
  readonly isMoving = computed(
    () => this.playhead.value < this.duration.value && (this.isLive.value || this.isPlaying.value),
  );

  #times: number[] = [];
  #frames: (PoseFrame | null)[] = [];

  reset(): void {
    this.#times = [];
    this.#frames = [];
    this.playhead.value = this.duration.value = 0;
    this.isLive.value = true;
    this.isPlaying.value = false;
  }

  get numFrames(): number {
    return this.#frames.filter((frame) => frame !== null).length;
  }

  /** Append a frame, or only the time where the server sent no poses; several frames of one time are a jump. */
  add(time: number, frame: PoseFrame | null): void {
    this.#times.push(Math.max(time, this.duration.value));
    this.#frames.push(frame);
    this.duration.value = Math.max(time, this.duration.value);
  }

  /** Put the playhead at a time; at the end of an episode that goes on it is live again. */
  seek(time: number): void {
    this.playhead.value = Math.min(Math.max(time, 0), this.duration.value);
    this.isLive.value = this.playhead.value >= this.duration.value;
    if (this.isLive.value) this.isPlaying.value = false;
  }

  /** Replay from the playhead; from the start where it stands at the end of an episode that is over. */
  play(): void {
    if (this.playhead.value >= this.duration.value) {
      if (this.isOpen.value) {
        this.goLive();
        return;
      }
      this.playhead.value = 0;
    }
    this.isLive.value = false;
    this.isPlaying.value = true;
  }

  pause(): void {
    this.isLive.value = false;
    this.isPlaying.value = false;
  }

  goLive(): void {
    this.isLive.value = true;
    this.isPlaying.value = false;
  }

  /** Advance by the page's own clock. */
  tick(elapsed: number): void {
    if (!this.isMoving.value) return;
    const lag = this.duration.value - this.playhead.value;
    const rate = this.isLive.value ? liveRate(lag, this.isOpen.value) : 1;
    const next = Math.min(this.playhead.value + elapsed * rate, this.duration.value);
    this.playhead.value = next;
    if (next >= this.duration.value) this.goLive();
  }

  /** Return where the moving bodies are at a time, between two frames; null where the server sent no poses. */
  frameAt(time: number): PoseFrame | null {
    const after = upperBound(this.#times, time);
    const before = this.#frames[Math.max(after - 1, 0)] ?? null;
    const next = this.#frames[after] ?? null;
    if (before === null || next === null || after === 0) return before ?? next;
    const [start = 0, end = 0] = [this.#times[after - 1], this.#times[after]];
    return interpolateFrames(before, next, end > start ? (time - start) / (end - start) : 1);
  }
}

/** Close a part of the lag each moment: about real time while frames keep coming, faster where they come faster. */
function liveRate(lag: number, isOpen: boolean): number {
  return isOpen ? Math.max(0.3, 1 + 2 * (lag - LIVE_LAG_S)) : 1 + 2 * lag;
}

/** Return the number of times that are at most `time`. */
export function upperBound(times: readonly number[], time: number): number {
  let low = 0;
  let high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((times[middle] ?? 0) <= time) low = middle + 1;
    else high = middle;
  }
  return low;
}

function interpolateFrames(a: PoseFrame, b: PoseFrame, share: number): PoseFrame {
  if (a.length !== b.length) return a;
  return a.map((pose, index) => interpolatePose(pose, b[index] ?? pose, share));
}

/** Positions linearly, quaternions on the shorter arc of the great circle (slerp). */
export function interpolatePose(a: Pose, b: Pose, share: number): Pose {
  const linear = (i: number) => (a[i] ?? 0) + share * ((b[i] ?? 0) - (a[i] ?? 0));
  let cosine = a[3] * b[3] + a[4] * b[4] + a[5] * b[5] + a[6] * b[6];
  const sign = cosine < 0 ? -1 : 1;
  cosine = Math.min(cosine * sign, 1);
  const angle = Math.acos(cosine);
  const isTiny = angle < 1e-4;
  const weightA = isTiny ? 1 - share : Math.sin((1 - share) * angle) / Math.sin(angle);
  const weightB = sign * (isTiny ? share : Math.sin(share * angle) / Math.sin(angle));
  const arc = (i: number) => weightA * (a[i] ?? 0) + weightB * (b[i] ?? 0);
  return [linear(0), linear(1), linear(2), arc(3), arc(4), arc(5), arc(6)];
}
