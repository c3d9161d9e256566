import assert from "node:assert/strict";
import { test } from "node:test";
import { DEFAULT_OPTIONS, episodeRequest } from "./options";

const episode = { sceneId: "abc", instruction: "pick up the red cube", success: [], options: DEFAULT_OPTIONS };

test("the ensemble has a weight and no execution horizon", () => {
  const options = { ...DEFAULT_OPTIONS, execution: "temporal_ensemble" as const, ensembleWeight: 0.3 };
  const request = episodeRequest({ ...episode, options });
  assert.equal(request.ensemble_weight, 0.3);
  assert.equal(request.execution_horizon, undefined);
});

test("the policy's own execution is left to the server", () => {
  const request = episodeRequest(episode);
  assert.equal("execution_horizon" in request || "ensemble_weight" in request, false);
});

test("without a seed the server draws one", () => {
  assert.equal("seed" in episodeRequest({ ...episode, options: { ...DEFAULT_OPTIONS, seed: null } }), false);
});

test("an episode too long for an animation asks for none", () => {
  const options = { ...DEFAULT_OPTIONS, maxSteps: 301 };
  const request = episodeRequest({ ...episode, options });
  assert.deepEqual(request.record, ["state_log"]);
});

test("moved bodies are the state that the episode starts from", () => {
  const state = { bodies: { red_cube: { position: [0.4, 0, 0.025] as [number, number, number] } } };
  assert.deepEqual(episodeRequest({ ...episode, state }).state, state);
  assert.equal(episodeRequest({ ...episode, state: {} }).state, undefined);
});
