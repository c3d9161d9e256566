// Two episodes of one scene, seed and instruction, on one timeline.

import { batch, computed, effect, signal, untracked } from "@preact/signals";
import type { Server } from "../api/server";
import type { EpisodeRequest, PoseFrame, StartEvent, StepEvent } from "../api/types";
import { EpisodeRun } from "../episode/episodeRun";
import { Playback, upperBound } from "../episode/playback";
import type { TimedAction } from "./actionDifference";
import { DEFAULT_SIDE, SIDES, type SideName } from "./side";

export interface SideRequest {
  server: Server;
  request: EpisodeRequest;
}

export class PairRun {
  readonly runs: Record<SideName, EpisodeRun> = { A: new EpisodeRun(), B: new EpisodeRun() };
  /** The shared playhead: it goes no further than what has come of both sides, or of the longer when the other is over. */
  readonly playback = new Playback();
  /** Nothing is played before both sides are over: which of them is faster stays hidden. */
  readonly isHeldBack = signal(false);
  readonly isBegun = computed(() => SIDES.some((side) => this.runs[side].status.value !== "idle"));
  readonly isActive = computed(() => SIDES.some((side) => this.runs[side].isActive.value));
  readonly areBothOver = computed(() => SIDES.every((side) => this.runs[side].isOver.value));
  readonly #reach = computed(() => reach(SIDES.map((side) => sideReach(this.runs[side]))));
  readonly #unwatch = effect(() => this.#extend());

  async begin(requests: Record<SideName, SideRequest>, isHeldBack = false): Promise<void> {
    this.stop();
    const begun = SIDES.map((side) => this.runs[side].begin(requests[side].server, requests[side].request));
    batch(() => {
      this.isHeldBack.value = isHeldBack;
      this.playback.reset();
    });
    await Promise.all(begun);
  }

  stop(): void {
    for (const side of SIDES) if (this.runs[side].isActive.peek()) void this.runs[side].stop();
  }

  dispose(): void {
    this.stop();
    this.#unwatch();
    for (const side of SIDES) this.runs[side].dispose();
  }

  #extend(): void {
    const end = this.isHeldBack.value && !this.areBothOver.value ? 0 : this.#reach.value;
    this.playback.isOpen.value = this.isActive.value;
    if (end <= this.playback.duration.peek()) return;
    this.playback.add(end, null);
    if (this.isHeldBack.value) untracked(() => this.#playFromStart());
  }

  #playFromStart(): void {
    this.playback.seek(0);
    this.playback.play();
  }
}

/** Return how far a shared timeline reaches: both sides must have come so far, unless one of them is over. */
export function reach(sides: { duration: number; isOver: boolean }[]): number {
  const open = sides.filter((side) => !side.isOver).map((side) => side.duration);
  return Math.min(...open, Math.max(...sides.map((side) => side.duration)));
}

/** What one side shows at a moment of the shared timeline; it stands still where it is over. */
export interface Moment {
  index: number;
  time: number;
  step: StepEvent | null;
  images: Record<string, string>;
  poses: PoseFrame | null;
}

export function momentOf(run: EpisodeRun, playhead: number): Moment {
  const steps = run.steps.value;
  const times = steps.map((_, index) => run.timeOf(index));
  const index = upperBound(times, playhead + 1e-6) - 1;
  const time = Math.min(playhead, run.playback.duration.value);
  const images = steps[index]?.images ?? run.start.value?.images ?? {};
  return { index, time, step: steps[index] ?? null, images, poses: run.playback.frameAt(time) };
}

/** Return when each of a run's actions began, on the shared timeline: a step may begin with a hold, its latency. */
export function timedActions(run: EpisodeRun): TimedAction[] {
  const period = 1 / (run.request.value?.control?.rate_hz ?? DEFAULT_SIDE.rateHz);
  return run.steps.value.map((step, index) => ({ time: Math.max(run.timeOf(index) - period, 0), action: step.action }));
}

/** Return the ids of the bodies whose poses the frames hold. */
export function poseBodies(start: StartEvent | null): number[] {
  return start?.pose_bodies ?? [];
}

function sideReach(run: EpisodeRun): { duration: number; isOver: boolean } {
  return { duration: run.playback.duration.value, isOver: run.isOver.value };
}
