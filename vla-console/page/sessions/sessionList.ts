// The sessions of every server, asked for once a second while somebody looks.

import { signal } from "@preact/signals";
import type { Server } from "../api/server";
import type { SessionStatus } from "../api/types";

export interface SessionRow {
  key: string;
  server: Server;
  session: SessionStatus;
  isEnded: boolean;
}

export const MAX_ENDED = 20;
const POLL_MS = 1000;

export class SessionList {
  readonly rows = signal<SessionRow[]>([]);
  /** Servers that gave no list, in words. */
  readonly errors = signal<string[]>([]);
  /** False until the first answer. */
  readonly isLoaded = signal(false);

  constructor(readonly servers: Server[]) {}

  /** Ask now and then every second while the tab is in front; call the result to stop. */
  watch(): () => void {
    let timer: ReturnType<typeof setTimeout>;
    let isStopped = false;
    const poll = async () => {
      if (!document.hidden) await this.#poll();
      if (!isStopped) timer = setTimeout(poll, POLL_MS);
    };
    void poll();
    return () => {
      isStopped = true;
      clearTimeout(timer);
    };
  }

  async #poll(): Promise<void> {
    const lists = await Promise.allSettled(this.servers.map((server) => server.sessions()));
    const answered = lists.flatMap((list, i) => (list.status === "fulfilled" ? [{ list: list.value, i }] : []));
    const present = answered.flatMap(({ list, i }) =>
      list.map((session) => row(this.servers[i] as Server, i, session)),
    );
    const silent = new Set(this.servers.filter((_, i) => lists[i]?.status === "rejected"));
    this.rows.value = mergeRows(this.rows.value, present, silent);
    this.errors.value = lists.flatMap((list) => (list.status === "rejected" ? [String(list.reason)] : []));
    this.isLoaded.value = true;
  }
}

/** Keep sessions in the order in which they were first seen; those that are gone stay a while as ended, unless their server is silent. */
export function mergeRows(before: SessionRow[], present: SessionRow[], silent: ReadonlySet<Server>): SessionRow[] {
  const now = new Map(present.map((item) => [item.key, item]));
  const known = new Set(before.map((item) => item.key));
  const merged = before.map((item) => now.get(item.key) ?? { ...item, isEnded: !silent.has(item.server) });
  const rows = [...merged, ...present.filter((item) => !known.has(item.key))];
  const ended = rows.filter((item) => item.isEnded).slice(-MAX_ENDED);
  return [...rows.filter((item) => !item.isEnded), ...ended];
}

function row(server: Server, index: number, session: SessionStatus): SessionRow {
  return { key: `${index} ${session.id}`, server, session, isEnded: false };
}
