import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { Server } from "../api/server";
import type { SessionStep } from "../api/types";
import { appendStep, type KeptStep, MAX_KEPT_STEPS, SessionWatch } from "./sessionWatch";

function step(index: number): SessionStep {
  return {
    step: index,
    instruction: "push",
    action: [index],
    actions: [[index], [index + 1]],
    action_names: ["x"],
    dataset: null,
    asked_policy: true,
    sequence: null,
    timing_ms: { queue: 0, infer: 5, total: 6 },
    images: { primary: "AAAA" },
    time: 0,
  };
}

function append(...indexes: number[]): number[] {
  return indexes.reduce<KeptStep[]>((steps, index) => appendStep(steps, step(index)), []).map((kept) => kept.step);
}

test("no images are kept of earlier steps", () => {
  assert.deepEqual(appendStep([], step(3)), [
    { step: 3, action: [3], timing_ms: { queue: 0, infer: 5, total: 6 }, asked_policy: true },
  ]);
});

test("a step that comes twice is kept once", () => {
  assert.deepEqual(append(1, 2, 2), [1, 2]);
});

test("the steps begin again with another episode", () => {
  assert.deepEqual(append(5, 6, 0, 1), [0, 1]);
});

test("only the last steps are kept", () => {
  const indexes = append(...Array.from({ length: MAX_KEPT_STEPS + 10 }, (_, i) => i));
  assert.equal(indexes.length, MAX_KEPT_STEPS);
  assert.equal(indexes[0], 10);
});

async function follow(answer: (path: string) => { status: number; body: string }): Promise<SessionWatch> {
  const http = createServer((request, response) => {
    const { status, body } = answer(request.url ?? "");
    response.writeHead(status).end(body);
  });
  await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
  const base = `http://127.0.0.1:${(http.address() as AddressInfo).port}/`;
  const watch = new SessionWatch(new Server({ name: "tabletop", base }), "arm 1");
  try {
    await watch.follow();
  } finally {
    http.closeAllConnections();
    http.close();
  }
  return watch;
}

test("a session is followed from its first event to its end", async () => {
  const events = [`event: session\ndata: {}`, `event: step\ndata: ${JSON.stringify(step(4))}`, "event: end\ndata: {}"];
  const watch = await follow((path) => ({
    status: path === "/sessions/arm%201/events" ? 200 : 500,
    body: `${events.join("\n\n")}\n\n`,
  }));
  assert.equal(watch.status.value, "ended");
  assert.equal(watch.last.value?.step, 4);
});

test("a session that the server does not know has ended, in the server's words", async () => {
  const error = { code: "not_found", message: "no session 'arm 1'", hint: "see GET /sessions" };
  const watch = await follow(() => ({ status: 404, body: JSON.stringify({ error, request_id: "1" }) }));
  assert.equal(watch.status.value, "ended");
  assert.equal(watch.error.value, "no session 'arm 1'; see GET /sessions");
});
