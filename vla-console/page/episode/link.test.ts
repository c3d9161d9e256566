import assert from "node:assert/strict";
import { test } from "node:test";
import { pack, readFragment, runFragment, type SharedRun, unpack } from "./link";
import { DEFAULT_OPTIONS } from "./options";

const run: SharedRun = {
  scene: "panda/tabletop",
  instruction: "hebe den Würfel → links",
  success: [{ kind: "lifted", body: "red_cube", height_m: 0.05 }],
  seed: 7,
  options: { ...DEFAULT_OPTIONS, maxSteps: 20 },
  changes: [{ step: 3, instruction: "stop" }],
};

test("a link holds the run, also with letters beyond ASCII", () => {
  assert.deepEqual(readFragment(runFragment(run)), { run: { ...run, options: { maxSteps: 20 } } });
});

test("a link's fragment needs no escaping", () => {
  assert.match(runFragment(run), /^#run=[\w-]+$/);
});

test("an episode's link names its id", () => {
  assert.deepEqual(readFragment("#episode=abc-1"), { episode: "abc-1" });
});

test("a damaged link and a foreign one ask for nothing", () => {
  for (const fragment of ["", "#", "#run=%%%", "#run=e30", "#run=bm90IGpzb24", "#settings"]) {
    assert.equal(readFragment(fragment), null);
  }
});

test("a small scene travels in the link", async () => {
  const xml = "<mujoco><worldbody><geom size='0.1'/></worldbody></mujoco>".repeat(40);
  const packed = await pack(xml);
  assert.ok(packed !== null && packed.length < xml.length / 4);
  assert.equal(await unpack(packed), xml);
});

test("a scene that would make the link too long stays out of it", async () => {
  const numbers = Array.from({ length: 8000 }, (_, index) => Math.sin(index)).join(" ");
  assert.equal(await pack(numbers), null);
});
