import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { Server } from "../api/server";
import type { EpisodeRequest } from "../api/types";
import { BlindTrial } from "./blindTrial";

const subject = { names: { A: "one", B: "two" }, task: null, instruction: "push", scene: "panda/tabletop", seed: 7 };
const request: EpisodeRequest = { instruction: "push" };

function storage() {
  const items = new Map<string, string>();
  return {
    getItem: (key: string) => items.get(key) ?? null,
    setItem: (key: string, value: string) => void items.set(key, value),
  };
}

/** A server whose episodes have steps at these times [s] and then end; `isRefusing` refuses them. */
async function withServer(use: (server: Server) => Promise<void>, times = [0.2, 0.4], isRefusing = false) {
  const state = (time: number) => ({ qpos: [], qvel: [], ctrl: [], time });
  const step = (time: number, index: number) => ({ index, action: [], state: state(time), timing_ms: { predict: 5 } });
  const events = times.map(
    (time, index) => `id: ${index}\nevent: step\ndata: ${JSON.stringify(step(time, index))}\n\n`,
  );
  const end = { reason: "success", num_steps: times.length, success: true };
  const http = createServer((incoming, response) => {
    const error = { code: "overloaded", message: "too many episodes", hint: "wait" };
    if (isRefusing) response.writeHead(503).end(JSON.stringify({ error, request_id: "1" }));
    else if (incoming.method === "POST")
      response.writeHead(201).end(JSON.stringify({ episode_id: "e", status: "running", start: { state: state(0) } }));
    else response.end(`${events.join("")}id: 9\nevent: end\ndata: ${JSON.stringify(end)}\n\n`);
  });
  await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
  try {
    await use(new Server({ name: "x", base: `http://127.0.0.1:${(http.address() as AddressInfo).port}/` }));
  } finally {
    http.closeAllConnections();
    http.close();
  }
}

async function until(isReached: () => boolean): Promise<void> {
  while (!isReached()) await new Promise((resolve) => setTimeout(resolve, 5));
}

function watchToTheEnd({ pair: { playback } }: BlindTrial): void {
  while (playback.isMoving.peek()) playback.tick(0.05);
}

test("nothing is shown before both sides are over, and nobody votes before having watched", async () => {
  await withServer(async (server) => {
    const blind = new BlindTrial(storage());
    await blind.begin({ A: { server, request }, B: { server, request } }, subject);
    assert.equal(blind.pair.playback.duration.value, 0);
    await until(() => blind.phase.value === "watching");
    assert.equal(blind.pair.playback.playhead.value, 0);
    blind.decide("left", { left: null, right: null }, "");
    assert.equal(blind.vote.value, null);
    watchToTheEnd(blind);
    assert.equal(blind.phase.value, "voting");
  });
});

test("a vote names what was shown left and right, and reveals it", async () => {
  await withServer(async (server) => {
    const blind = new BlindTrial(storage());
    await blind.begin({ A: { server, request }, B: { server, request } }, subject);
    await until(() => blind.phase.value === "watching");
    watchToTheEnd(blind);
    blind.decide("right", { left: 20, right: 90 }, "steadier");
    const [left, right] = blind.order.value;
    assert.equal(blind.phase.value, "revealed");
    assert.deepEqual(blind.vote.value?.shown, { left: subject.names[left], right: subject.names[right] });
    assert.equal(blind.vote.value?.seed, 7);
    assert.deepEqual(new BlindTrial(blind.storage).votes.value, [blind.vote.value]);
  });
});

test("there is no vote where a side could not run", async () => {
  await withServer(
    async (server) => {
      const blind = new BlindTrial(storage());
      await blind.begin({ A: { server, request }, B: { server, request } }, subject);
      assert.equal(blind.phase.value, "failed");
      assert.equal(blind.pair.runs.A.error.value?.message, "too many episodes");
    },
    [],
    true,
  );
});
