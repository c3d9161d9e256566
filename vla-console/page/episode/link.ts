// What a link's fragment says: an episode to attach to, or one to begin as a colleague began it.

import type { EpisodeChange, SceneState, Success } from "../api/types";
import { DEFAULT_OPTIONS, type RunOptions } from "./options";

export interface SharedRun {
  /** A bundled scene such as "panda/tabletop", or the id of one that the server was sent. */
  scene: string;
  robot?: string;
  instruction: string;
  success: Success[];
  seed: number | null;
  options: Partial<RunOptions>;
  state?: SceneState;
  changes?: EpisodeChange[];
}

export type Link = { episode: string } | { run: SharedRun };

/** Return the fragment that begins the same episode elsewhere; options that have their default are left out. */
export function runFragment(run: SharedRun): string {
  const options = Object.fromEntries(
    Object.entries(run.options).filter(([name, value]) => DEFAULT_OPTIONS[name as keyof RunOptions] !== value),
  );
  return `#run=${toBase64Url(JSON.stringify({ ...run, options }))}`;
}

/** Return what a fragment asks for; null where it asks for nothing that this page knows, or is damaged. */
export function readFragment(fragment: string): Link | null {
  const parameters = new URLSearchParams(fragment.replace(/^#/, ""));
  const episode = parameters.get("episode");
  if (episode) return { episode };
  const run = parameters.get("run");
  if (!run) return null;
  try {
    const shared: Partial<SharedRun> = JSON.parse(fromBase64Url(run));
    if (typeof shared.scene !== "string" || typeof shared.instruction !== "string") return null;
    return {
      run: { ...shared, success: [], seed: null, options: {}, ...definedOf(shared) } as SharedRun,
    };
  } catch {
    return null;
  }
}

function definedOf(shared: Partial<SharedRun>): Partial<SharedRun> {
  return Object.fromEntries(Object.entries(shared).filter(([, value]) => value !== undefined && value !== null));
}

function toBase64Url(text: string): string {
  const bytes = Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join("");
  return btoa(bytes).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

function fromBase64Url(text: string): string {
  const bytes = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return new TextDecoder().decode(Uint8Array.from(bytes, (byte) => byte.charCodeAt(0)));
}
