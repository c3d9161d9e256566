import assert from "node:assert/strict";
import { test } from "node:test";
import { DEFAULT_SIDE, describe, fullName, requestFields } from "./side";

test("a horizon and an ensemble are not asked for at once", () => {
  assert.equal("ensemble_weight" in requestFields({ ...DEFAULT_SIDE, mode: "horizon", horizon: 4 }), false);
  const ensemble = requestFields({ ...DEFAULT_SIDE, mode: "ensemble", horizon: 4, ensembleWeight: 0.5 });
  assert.equal("execution_horizon" in ensemble, false);
  assert.equal(ensemble.ensemble_weight, 0.5);
});

test("the policy's own execution is left to its server", () => {
  const own = requestFields(DEFAULT_SIDE);
  assert.equal("execution_horizon" in own || "ensemble_weight" in own, false);
});

test("a side is described by what is not the default", () => {
  assert.equal(describe(DEFAULT_SIDE), "own execution");
  const mode = { mode: "horizon" as const, horizon: 4 };
  const side = { ...DEFAULT_SIDE, ...mode, server: 1, latencyMs: 200, rateHz: 10, guard: "clamp" as const };
  assert.equal(fullName(side, ["one", "two"]), "two, horizon 4, 10 Hz, latency 200 ms, guard clamp");
});
