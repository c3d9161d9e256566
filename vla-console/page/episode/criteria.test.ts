import assert from "node:assert/strict";
import { test } from "node:test";
import { describe, presetOf, unitOf } from "./criteria";

test("a criterion reads as what has to hold", () => {
  const pushed = { kind: "measured", measure: "along", names: ["red_cube"], direction: [0, -1, 0], low: 0.08 };
  assert.equal(describe({ kind: "lifted", body: "red_cube" }), "red_cube lifted by 0.05 m");
  assert.equal(describe({ ...pushed, since_start: true }), "red_cube along −y ≥ 0.08 m since the start");
  assert.equal(describe({ kind: "near", bodies: ["a", "b"], distance_m: 0.1 }), "a and b within 0.1 m");
});

test("a contact is judged in newtons", () => {
  assert.equal(unitOf({ kind: "measured", measure: "contact", names: ["a", "b"] }), "N");
});

test("a typed instruction is a preset whatever its capitals; free text is none", () => {
  const preset = {
    name: "t",
    instruction: "pick up the red cube",
    robot: "panda",
    scene: "panda/tabletop",
    success: [],
  };
  assert.equal(presetOf(" Pick up the RED cube ", [preset]), preset);
  assert.equal(presetOf("dance", [preset]), undefined);
});
