// One session as its watcher sees it: the last step with its images, and the numbers of the last few hundred.

import { signal } from "@preact/signals";
import { type Server, ServerError } from "../api/server";
import type { SessionStep } from "../api/types";

/** A step without what is heavy: images and the chunk are kept of the last step only. */
export type KeptStep = Pick<SessionStep, "step" | "action" | "timing_ms" | "asked_policy">;

export const MAX_KEPT_STEPS = 300;
const RECONNECT_MS = 1000;

export class SessionWatch {
  readonly status = signal<"connecting" | "live" | "ended" | "error">("connecting");
  readonly error = signal("");
  readonly last = signal<SessionStep | null>(null);
  readonly steps = signal<KeptStep[]>([]);
  readonly #abort = new AbortController();

  constructor(
    readonly server: Server,
    readonly id: string,
  ) {}

  /** Follow the session until it ends or `stop` is called; a broken stream is opened again. */
  async follow(): Promise<void> {
    const { signal } = this.#abort;
    while (!signal.aborted && !(await this.#reachesEnd(signal))) {
      await new Promise((resolve) => setTimeout(resolve, RECONNECT_MS));
    }
  }

  stop(): void {
    this.#abort.abort();
  }

  async #reachesEnd(signal: AbortSignal): Promise<boolean> {
    try {
      for await (const event of this.server.sessionEvents(this.id, signal)) {
        this.error.value = "";
        this.status.value = event.name === "end" ? "ended" : "live";
        if (event.name === "end") return true;
        if (event.name === "step") this.#take(event.data as SessionStep);
      }
      return false;
    } catch (error) {
      return signal.aborted || this.#fail(error);
    }
  }

  #take(step: SessionStep): void {
    this.steps.value = appendStep(this.steps.value, step);
    this.last.value = step;
  }

  /** Say why there is no stream, and whether there will be none: a session that the server does not know has ended. */
  #fail(error: unknown): boolean {
    const isGone = error instanceof ServerError && error.status === 404;
    this.status.value = isGone ? "ended" : "error";
    if (!isGone || this.last.value === null) this.error.value = String(error);
    return isGone;
  }
}

/** Append a step's numbers, the oldest making room; a step that is not later begins another episode. */
export function appendStep(steps: KeptStep[], { step, action, timing_ms, asked_policy }: SessionStep): KeptStep[] {
  const last = steps.at(-1);
  if (last?.step === step) return steps;
  const before = last !== undefined && step < last.step ? [] : steps.slice(-MAX_KEPT_STEPS + 1);
  return [...before, { step, action, timing_ms, asked_policy }];
}
