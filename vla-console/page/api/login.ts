// Logins at servers that need an API key: a person types it once, and the server gives the browser a cookie.

import { type Signal, signal } from "@preact/signals";
import type { ErrorReply, ServerEntry } from "./types";

/** A server that waits for a key; what it is asked meanwhile goes on when there is one. */
export interface LoginRequest {
  entry: ServerEntry;
  /** Why the last key was refused. */
  error: Signal<string>;
  send(key: string): Promise<void>;
}

/** The login that the page asks for now. */
export const wantedLogin = signal<LoginRequest | null>(null);

const STORED = "vla-logins";
/** Whose key this browser has, by the server's base; the cookie itself no script can read. */
export const names = signal<Record<string, string>>(storedNames());

const waiting = new Map<string, Promise<void>>();

/** Have a person log in at a server; all that its requests wait for is one login. */
export function login(entry: ServerEntry): Promise<void> {
  const asked = waiting.get(entry.base) ?? ask(entry);
  waiting.set(entry.base, asked);
  return asked;
}

export async function logout(entry: ServerEntry): Promise<void> {
  await fetch(`${entry.base}logout`, { method: "POST" });
  store(entry.base, undefined);
  location.reload();
}

async function ask(entry: ServerEntry): Promise<void> {
  // One dialog at a time, where several servers want a key.
  await Promise.allSettled(waiting.values());
  store(entry.base, undefined);
  await new Promise<void>((resolve) => {
    const error = signal("");
    const send = async (key: string) => {
      const headers = { Authorization: `Bearer ${key}` };
      try {
        const response = await fetch(`${entry.base}login`, { method: "POST", headers });
        const reply: { name?: string } & Partial<ErrorReply> = await response.json();
        if (!response.ok) throw new Error(reply.error?.message ?? `${response.status} ${response.statusText}`);
        store(entry.base, reply.name);
        resolve();
      } catch (problem) {
        // Also where the server does not answer, or a header cannot have what was typed.
        error.value = problem instanceof Error ? problem.message : String(problem);
      }
    };
    wantedLogin.value = { entry, error, send };
  });
  wantedLogin.value = null;
  waiting.delete(entry.base);
}

function store(base: string, name: string | undefined): void {
  const { [base]: _, ...others } = names.value;
  names.value = name === undefined ? others : { ...others, [base]: name };
  localStorage.setItem(STORED, JSON.stringify(names.value));
}

function storedNames(): Record<string, string> {
  try {
    return JSON.parse(localStorage.getItem(STORED) ?? "{}");
  } catch {
    return {};
  }
}
