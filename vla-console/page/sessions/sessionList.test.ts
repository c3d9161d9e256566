import assert from "node:assert/strict";
import { test } from "node:test";
import { Server } from "../api/server";
import { MAX_ENDED, mergeRows, type SessionRow } from "./sessionList";

const server = new Server({ name: "tabletop", base: "/" });

function row(id: string, isEnded = false): SessionRow {
  const state = { execution: "none", instruction: null, seed: 0, step: 0, idle_s: 0, is_waiting: false };
  const session = { id, ...state, client: "127.0.0.1", protocol: "http", steps_per_s: 0, last_ms: null };
  return { key: id, server, session, isEnded };
}

function names(rows: SessionRow[]): string[] {
  return rows.map(({ key, isEnded }) => (isEnded ? `${key} ended` : key));
}

test("a session that is gone stays as ended, below those that live", () => {
  assert.deepEqual(names(mergeRows([row("a"), row("b")], [row("b"), row("c")], new Set())), ["b", "c", "a ended"]);
});

test("a session that comes back lives again", () => {
  assert.deepEqual(names(mergeRows([row("a", true)], [row("a")], new Set())), ["a"]);
});

test("nothing has ended because a server is silent", () => {
  assert.deepEqual(names(mergeRows([row("a")], [], new Set([server]))), ["a"]);
});

test("only the last ended sessions are kept", () => {
  const before = Array.from({ length: MAX_ENDED + 5 }, (_, i) => row(`s${i}`));
  const rows = mergeRows(before, [], new Set());
  assert.equal(rows.length, MAX_ENDED);
  assert.equal(rows[0]?.key, "s5");
});
