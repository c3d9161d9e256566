import assert from "node:assert/strict";
import { test } from "node:test";
import type { Contact, Motion } from "../api/types";
import { describe, graspState } from "./motion";

const free = new Set(["red_cube", "blue_cube"]);

function motion(gripper: number, ...contacts: [string, string][]): Motion {
  return {
    position: [0, 0, 0],
    quaternion: [1, 0, 0, 0],
    joint_targets: [],
    gripper,
    contacts: contacts.map((bodies): Contact => ({ bodies, force_n: 1 })),
    violations: [],
    scale: 1,
  };
}

test("a closed gripper with both fingers at a body holds it", () => {
  const both = motion(0, ["left_finger", "red_cube"], ["red_cube", "right_finger"]);
  assert.equal(graspState(both, free), "holding red_cube");
});

test("one finger touches, and a gripper at nothing is open or closed", () => {
  assert.equal(graspState(motion(0, ["left_finger", "red_cube"]), free), "touching red_cube");
  assert.equal(graspState(motion(1, ["hand", "table"]), free), "gripper open");
  assert.equal(graspState(motion(0), free), "gripper closed");
});

test("a violation says its value and its limit", () => {
  const violation = { kind: "contact" as const, what: "hand, table", value: 130.04, limit: 100 };
  assert.equal(describe(violation), "contact hand, table: 130 N, limit 100 N");
});
