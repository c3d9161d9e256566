import assert from "node:assert/strict";
import { test } from "node:test";
import { readEvents } from "./events";

function stream(...pieces: string[]): ReadableStream<Uint8Array<ArrayBuffer>> {
  return new ReadableStream({
    start(controller) {
      for (const piece of pieces) controller.enqueue(new TextEncoder().encode(piece));
      controller.close();
    },
  });
}

test("an event that comes in pieces is one event, and comments are none", async () => {
  const events = [];
  for await (const event of readEvents(
    stream(": hello\n\nevent: st", 'ep\nid: 3\ndata: {"index": 1}\n', "\nevent: end\ndata: {}\n\n"),
  )) {
    events.push(event);
  }
  assert.deepEqual(events, [
    { name: "step", id: 3, data: { index: 1 } },
    { name: "end", id: -1, data: {} },
  ]);
});
