import assert from "node:assert/strict";
import { test } from "node:test";
import { signal } from "@preact/signals";
import type { StartEvent, StepEvent } from "../api/types";
import { EpisodeRun } from "./episodeRun";
import { Moment, toWorld } from "./moment";

function recorded(): { run: EpisodeRun; moment: Moment } {
  const run = new EpisodeRun();
  run.start.value = { state: { time: 0 }, images: { primary: "start" }, criteria: [] } as unknown as StartEvent;
  run.steps.value = [0, 1, 2].map(
    (index) =>
      ({
        index,
        state: { time: 0.2 * (index + 1) },
        images: { primary: `after ${index}` },
        chunk: index === 1 ? [[1], [2]] : null,
        preview: null,
        violations: [],
      }) as unknown as StepEvent,
  );
  run.playback.add(0, null);
  run.playback.add(0.6, null);
  return { run, moment: new Moment(run, signal(null)) };
}

test("the images are those of the last moment up to the playhead", () => {
  const { run, moment } = recorded();
  const shown = [0, 0.1, 0.2, 0.45, 0.6].map((time) => {
    run.playback.seek(time);
    return moment.images.value.primary;
  });
  assert.deepEqual(shown, ["start", "start", "after 0", "after 1", "after 2"]);
});

test("an action is shown from its beginning to its end", () => {
  const { run, moment } = recorded();
  const shown = [0, 0.1, 0.2, 0.3, 0.6].map((time) => {
    run.playback.seek(time);
    return moment.index.value;
  });
  assert.deepEqual(shown, [-1, 0, 0, 1, 2]);
});

test("the chunk is the last one that the policy gave", () => {
  const { run, moment } = recorded();
  run.playback.seek(0.1);
  assert.equal(moment.chunk.value, null);
  run.playback.seek(0.5);
  assert.deepEqual(moment.chunk.value, { first: 1, rows: [[1], [2]] });
});

test("images that are not kept leave the last ones that are", () => {
  const { run, moment } = recorded();
  (run.steps.value[0] as StepEvent).images = null;
  run.playback.seek(0.3);
  assert.equal(moment.images.value.primary, "start");
});

test("a point of the base frame turns and moves with the base", () => {
  const half = Math.SQRT1_2;
  const point = toWorld([1, 0, 0], [1, 2, 3, half, 0, 0, half]);
  [1, 3, 3].forEach((value, index) => {
    assert.ok(Math.abs((point[index] ?? 0) - value) < 1e-9);
  });
});
