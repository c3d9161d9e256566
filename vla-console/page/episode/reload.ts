// The tab's episode, kept so that a reload of the page comes back to it.

import type { EpisodeRequest } from "../api/types";
import type { RunOptions } from "./options";

const KEY = "vla-console.episode";

export interface TabEpisode {
  /** The server's, as the page reaches it. */
  base: string;
  id: string;
  request: EpisodeRequest;
  options: RunOptions;
}

/** Keep an episode for this tab; null keeps none. */
export function keepEpisode(storage: Pick<Storage, "setItem" | "removeItem">, episode: TabEpisode | null): void {
  try {
    if (episode === null) storage.removeItem(KEY);
    else storage.setItem(KEY, JSON.stringify(episode));
  } catch {
    // A full or forbidden storage: a reload begins with the scene.
  }
}

/** Return the episode that this tab had on a server, if any. */
export function keptEpisode(storage: Pick<Storage, "getItem">, base: string): TabEpisode | null {
  try {
    const episode: TabEpisode | null = JSON.parse(storage.getItem(KEY) ?? "null");
    return episode?.base === base ? episode : null;
  } catch {
    return null;
  }
}
