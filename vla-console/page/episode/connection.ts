// Whether a server answers, and how busy it is: polled, so that a lost server is seen within a second.

import { computed, signal } from "@preact/signals";
import { type Server, ServerError } from "../api/server";
import type { InfoReply, LoadReply } from "../api/types";

const POLL_MS = 700;
/** A server that is busy may take a moment; one that takes longer is lost. */
const TIMEOUT_MS = 2500;
/** What a proxy answers for a server behind it that is gone. */
const GATEWAY_STATUSES = [502, 504];

export class Connection {
  readonly load = signal<LoadReply | null>(null);
  readonly info = signal<InfoReply | null>(null);
  readonly isLost = signal(false);
  /** How often the server came back; its scenes and episodes may be gone then. */
  readonly returns = signal(0);
  readonly isReady = computed(() => !this.isLost.value && this.info.value?.model_status === "loaded");

  #timer = 0;

  constructor(readonly server: Server) {}

  /** Ask every 0.7 s until the result is called. */
  start(): () => void {
    let isStopped = false;
    const poll = async () => {
      await this.#poll();
      if (!isStopped) this.#timer = window.setTimeout(poll, POLL_MS);
    };
    void poll();
    return () => {
      isStopped = true;
      clearTimeout(this.#timer);
    };
  }

  async #poll(): Promise<void> {
    const wasLost = this.isLost.value;
    this.isLost.value = !(await this.#isAnswering());
    if (wasLost && !this.isLost.value) this.returns.value += 1;
  }

  async #isAnswering(): Promise<boolean> {
    const timeout = AbortSignal.timeout(TIMEOUT_MS);
    try {
      if (!this.isReady.value) this.info.value = await this.server.info(timeout);
      this.load.value = await this.server.load(timeout);
      return true;
    } catch (error) {
      return error instanceof ServerError && error.status !== 0 && !GATEWAY_STATUSES.includes(error.status);
    }
  }
}
