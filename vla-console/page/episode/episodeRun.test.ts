import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { Server } from "../api/server";
import type { EpisodeRequest, StepEvent } from "../api/types";
import { EpisodeRun } from "./episodeRun";

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

/** A server on a real socket that answers as `answer` does. */
async function serve(context: TestContext, answer: Answer): Promise<Server> {
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  context.after(() => server.close());
  return new Server({ name: "test", base: `http://127.0.0.1:${(server.address() as AddressInfo).port}/` });
}

const start = { state: { time: 0 }, seed: 3, criteria: [], poses: { times: [0], frames: [[[0, 0, 0, 1, 0, 0, 0]]] } };
const step = (index: number) => ({ index, state: { time: 0.2 * (index + 1) }, criteria: [] }) as unknown as StepEvent;
const event = (id: number, name: string, data: unknown) =>
  `event: ${name}\nid: ${id}\ndata: ${JSON.stringify(data)}\n\n`;
const request: EpisodeRequest = { instruction: "pick up the red cube" };

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 10));
}

test("a stream that is cut goes on behind the last event that came", async (context) => {
  const asked: string[] = [];
  const server = await serve(context, ({ method, url }, response) => {
    if (method === "POST")
      return response.writeHead(201).end(JSON.stringify({ episode_id: "e", status: "running", start }));
    asked.push(url ?? "");
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.write(
      asked.length === 1 ? event(0, "start", start) + event(1, "step", step(0)) : event(2, "step", step(1)),
    );
    if (asked.length === 1) return setTimeout(() => response.destroy(), 20);
    response.end(event(3, "end", { reason: "success", success: true, recordings: {} }));
  });
  const run = new EpisodeRun();
  await run.begin(server, request);
  await until(() => run.isOver.value);
  assert.deepEqual(asked, ["/episodes/e/events", "/episodes/e/events?after=1"]);
  assert.equal(run.status.value, "success");
  assert.equal(run.step.value, 2);
  assert.equal(run.playback.duration.value, 0.4);
});

test("an episode that the server has forgotten is over, and what came of it stays", async (context) => {
  let numAsked = 0;
  const server = await serve(context, ({ method }, response) => {
    if (method === "POST")
      return response.writeHead(201).end(JSON.stringify({ episode_id: "e", status: "running", start }));
    if (numAsked++ === 0) return response.writeHead(200).end(event(0, "start", start) + event(1, "step", step(0)));
    const error = { code: "episode_unknown", message: "no such episode", hint: "" };
    response.writeHead(404, { "Content-Type": "application/json" }).end(JSON.stringify({ error }));
  });
  const run = new EpisodeRun();
  await run.begin(server, request);
  await until(() => run.isOver.value);
  assert.equal(run.status.value, "error");
  assert.equal(run.error.value?.message, "the server no longer has this episode");
  assert.equal(run.step.value, 1);
});

test("a refused episode is an error in the server's words", async (context) => {
  const error = { code: "scene_invalid", message: "this scene has no arm", hint: "add one" };
  const server = await serve(context, (_, response) => response.writeHead(422).end(JSON.stringify({ error })));
  const run = new EpisodeRun();
  await run.begin(server, request);
  assert.equal(run.status.value, "error");
  assert.equal(run.error.value?.hint, "add one");
});
