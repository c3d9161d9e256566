import assert from "node:assert/strict";
import { test } from "node:test";
import type { EpisodeRequest } from "../api/types";
import { datasetRequest } from "./dataset";

const request: EpisodeRequest = { instruction: "wave", control: { rate_hz: 5 }, max_steps: 75, pace: "real_time" };

test("a dataset is made of the same motion: its seed, its changes and as many steps", () => {
  const changes = [{ step: 2, instruction: "stop" }];
  assert.deepEqual(datasetRequest(request, 7, 12, changes), {
    instruction: "wave",
    control: { rate_hz: 5 },
    seed: 7,
    max_steps: 12,
    changes,
    frames: "none",
    poses: false,
    preview: false,
    record: ["lerobot"],
  });
});

test("there is no dataset without a step, or at a rate that is not whole", () => {
  assert.equal(datasetRequest(request, 7, 0, undefined), null);
  assert.equal(datasetRequest({ ...request, control: { rate_hz: 2.5 } }, 7, 12, undefined), null);
});
