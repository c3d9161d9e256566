// One blind comparison: drawn, run behind a curtain, watched, voted on, and then revealed.

import { computed, effect, type Signal, signal } from "@preact/signals";
import { assignSides, type Choice, keepVotes, keptVotes, type Vote } from "./blind";
import { PairRun, type SideRequest } from "./pairRun";
import { SIDES, type SideName } from "./side";

export type BlindPhase = "idle" | "preparing" | "watching" | "voting" | "failed" | "revealed";

/** What a vote is about, as it was when the comparison began. */
export interface BlindSubject {
  names: Record<SideName, string>;
  task: string | null;
  instruction: string;
  scene: string;
  seed: number;
}

export class BlindTrial {
  readonly pair = new PairRun();
  readonly subject = signal<BlindSubject | null>(null);
  /** Which side is shown left, and which right. */
  readonly order = signal<[SideName, SideName]>(["A", "B"]);
  readonly vote = signal<Vote | null>(null);
  readonly votes: Signal<Vote[]>;
  readonly #wasWatched = signal(false);

  readonly phase = computed<BlindPhase>(() => {
    if (this.subject.value === null) return "idle";
    if (this.vote.value !== null) return "revealed";
    if (SIDES.some((side) => this.pair.runs[side].status.value === "error")) return "failed";
    if (!this.pair.areBothOver.value) return "preparing";
    return this.#wasWatched.value ? "voting" : "watching";
  });

  constructor(readonly storage: Pick<Storage, "getItem" | "setItem"> = localStorage) {
    this.votes = signal(keptVotes(storage));
    effect(() => {
      const { playhead, duration } = this.pair.playback;
      if (duration.value > 0 && playhead.value >= duration.value) this.#wasWatched.value = true;
    });
  }

  async begin(requests: Record<SideName, SideRequest>, subject: BlindSubject): Promise<void> {
    this.order.value = assignSides();
    this.vote.value = null;
    this.subject.value = subject;
    this.#wasWatched.value = false;
    await this.pair.begin(requests, true);
  }

  stop(): void {
    this.pair.stop();
    this.subject.value = null;
  }

  /** Keep the vote and reveal the sides. */
  decide(choice: Choice, progress: Vote["progress"], comment: string): void {
    const subject = this.subject.peek();
    if (subject === null || this.phase.peek() !== "voting") return;
    const { names, ...about } = subject;
    const [left, right] = this.order.peek();
    const shown = { left: names[left], right: names[right] };
    this.vote.value = { time: new Date().toISOString(), ...about, shown, choice, progress, comment };
    this.votes.value = keepVotes([...this.votes.peek(), this.vote.value], this.storage);
  }
}
