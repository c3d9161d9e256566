// What the policy would see if an episode began now: the start of one that is begun paused, and ended at once.

import { signal } from "@preact/signals";
import { type Server, ServerError } from "../api/server";
import type { StartEvent } from "../api/types";
import { type Episode, episodeRequest } from "./options";

/** After the last of several changes: a body is nudged many times. */
const DELAY_MS = 250;

export class Glance {
  readonly start = signal<StartEvent | null>(null);
  /** Why no episode can begin in this scene, in the server's words. */
  readonly refusal = signal<ServerError | null>(null);
  /** Scene and robot that the server refused: asked again only once they change. */
  #refused = "";
  #timer: ReturnType<typeof setTimeout> | undefined;
  #latest = 0;

  constructor(readonly server: Server) {}

  /** Look once nothing has changed for a moment. */
  soon(episode: () => Episode | null): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      const next = episode();
      if (next?.instruction) void this.#look(next);
    }, DELAY_MS);
  }

  /** An episode begins: its own start is what counts. */
  cancel(): void {
    clearTimeout(this.#timer);
    this.#latest++;
  }

  clear(): void {
    this.cancel();
    this.start.value = this.refusal.value = null;
    this.#refused = "";
  }

  async #look(episode: Episode): Promise<void> {
    const look = ++this.#latest;
    const what = `${episode.sceneId} ${episode.robot ?? ""}`;
    if (what === this.#refused) return;
    try {
      const request = { ...episodeRequest(episode), changes: undefined, record: [], paused: true };
      const { episode_id, start } = await this.server.begin(request);
      if (look === this.#latest) {
        this.start.value = start;
        this.refusal.value = null;
      }
      await this.server.forget(episode_id);
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      if (look !== this.#latest || error.status !== 422) return;
      this.refusal.value = error;
      this.#refused = what;
    }
  }
}
