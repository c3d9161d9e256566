// What a link's fragment says: an episode to attach to, or one to begin as a colleague began it.

import type { EpisodeChange, SceneState, Success } from "../api/types";
import { DEFAULT_OPTIONS, type RunOptions } from "./options";

/** Longer links are cut off by mail and chat programs. */
const MAX_PACKED_BYTES = 8192;

export interface SharedRun {
  /** Of several servers that a page shows, which: as `ServerEntry.base`. */
  server?: string;
  /** A bundled scene such as "panda/tabletop", or the id of one that the server was sent. */
  scene: string;
  /** The file's name and its packed MJCF, where the scene is a small file of the visitor's own. */
  file?: string;
  mjcf?: string;
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

/** Return a text compressed, as a link carries it; null where a link would become too long. */
export async function pack(text: string): Promise<string | null> {
  const packed = await through(new TextEncoder().encode(text), new CompressionStream("deflate-raw"));
  return packed.length > MAX_PACKED_BYTES ? null : base64UrlOf(packed);
}

/** Return the text that `pack` made this of. */
export async function unpack(packed: string): Promise<string> {
  return new TextDecoder().decode(await through(bytesOf(packed), new DecompressionStream("deflate-raw")));
}

async function through(
  bytes: Uint8Array<ArrayBuffer>,
  stream: CompressionStream | DecompressionStream,
): Promise<Uint8Array> {
  return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer());
}

function definedOf(shared: Partial<SharedRun>): Partial<SharedRun> {
  return Object.fromEntries(Object.entries(shared).filter(([, value]) => value !== undefined && value !== null));
}

function toBase64Url(text: string): string {
  return base64UrlOf(new TextEncoder().encode(text));
}

function fromBase64Url(text: string): string {
  return new TextDecoder().decode(bytesOf(text));
}

function base64UrlOf(bytes: Uint8Array): string {
  const letters = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  return btoa(letters).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

function bytesOf(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
}
