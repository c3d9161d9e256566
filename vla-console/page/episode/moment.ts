// What the page shows of an episode at its playhead: that moment's action, images, chunk and prediction.

import { computed, type ReadonlySignal } from "@preact/signals";
import type { Criterion, Motion, Pose, StartEvent, StepEvent, Vec3, Violation } from "../api/types";
import type { EpisodeRun } from "./episodeRun";
import { stepTimes } from "./marks";
import { upperBound } from "./playback";

/** Times are sums of floats: an event belongs to its own moment. */
const EPSILON_S = 1e-6;

export class Moment {
  /** When each action begins, and after them when the last one ends [s since the start]. */
  readonly times = computed(() => stepTimes(this.run.start.value, this.run.steps.value));
  /** The action that is being executed at the playhead; -1 before the first. */
  readonly index = computed(() => {
    const begun = upperBound(this.times.value, this.run.playback.playhead.value - EPSILON_S);
    return Math.min(begun, this.run.steps.value.length) - 1;
  });
  readonly step = computed<StepEvent | null>(() => this.run.steps.value[this.index.value] ?? null);
  readonly criteria = computed<readonly Criterion[]>(
    () => this.step.value?.criteria ?? this.#start.value?.criteria ?? [],
  );
  /** The last images of the policy's cameras up to the playhead, as the policy gets them. */
  readonly images = computed<Record<string, string>>(() => {
    const events = this.#imageEvents.value;
    let index = upperBound(this.#imageTimes.value, this.run.playback.playhead.value + EPSILON_S) - 1;
    while (index >= 0 && !events[index]?.images) index--;
    return events[index]?.images ?? events.find((event) => event.images)?.images ?? {};
  });
  /** The policy's last chunk, from the action at the playhead on. */
  readonly chunk = computed<{ first: number; rows: number[][] } | null>(() => {
    const source = this.#lastWith((step) => step.chunk?.length);
    return source?.chunk ? { first: source.index, rows: source.chunk } : null;
  });
  /** What the rest of the chunk is predicted to do; empty once the episode is over and shown to its end. */
  readonly ahead = computed<readonly Motion[]>(() => {
    const { end, playback } = this.run;
    if (end.value !== null && playback.playhead.value >= playback.duration.value) return [];
    const source = this.#lastWith((step) => step.preview?.length);
    return source?.preview?.slice(this.index.value - source.index) ?? [];
  });

  /** What the chunk that the guard refused would have violated; shown at the episode's end. */
  readonly rejected = computed<readonly Violation[]>(() => {
    const { end, playback } = this.run;
    if (playback.playhead.value < playback.duration.value) return [];
    return end.value?.rejected?.flatMap((motion) => motion.violations).slice(0, 3) ?? [];
  });
  /** Where the end effector is predicted to go, from where the present action began; in the robot's base frame. */
  readonly path = computed<Vec3[]>(() => {
    const begin = this.run.steps.value[this.index.value - 1];
    return [...(begin ? [begin] : []), ...this.ahead.value].map((motion) => motion.position);
  });

  readonly #imageEvents = computed(() => {
    const { start, steps, changes } = this.run;
    const first = start.value?.state.time ?? 0;
    const begun = [{ time: 0, images: this.#start.value?.images }];
    const stepped = steps.value.map(({ state, images }) => ({ time: state.time - first, images }));
    const changed = changes.value
      .filter((change) => change.images && change.state)
      .map(({ state, images }) => ({ time: (state?.time ?? 0) - first, images }));
    return [...begun, ...stepped, ...changed].sort((a, b) => a.time - b.time);
  });
  readonly #imageTimes = computed(() => this.#imageEvents.value.map((event) => event.time));

  readonly #start = computed(() => this.run.start.value ?? this.glance.value);

  /** `glance` is the start of the next episode, shown while there is none. */
  constructor(
    readonly run: EpisodeRun,
    readonly glance: ReadonlySignal<StartEvent | null>,
  ) {}

  /** Return the last step up to the playhead that has something which the policy gives once a chunk. */
  #lastWith(has: (step: StepEvent) => unknown): StepEvent | null {
    const steps = this.run.steps.value;
    for (let index = Math.max(this.index.value, 0); index >= 0; index--) {
      const step = steps[index];
      if (step && has(step)) return step;
    }
    return null;
  }
}

/** Return a point of a body's frame in the world's frame. */
export function toWorld([x, y, z]: Vec3, [px, py, pz, w, i, j, k]: Pose): Vec3 {
  // v + 2w (q x v) + 2 q x (q x v), with q the quaternion's vector part.
  const [a, b, c] = [2 * (j * z - k * y), 2 * (k * x - i * z), 2 * (i * y - j * x)];
  return [px + x + w * a + j * c - k * b, py + y + w * b + k * a - i * c, pz + z + w * c + i * b - j * a];
}
