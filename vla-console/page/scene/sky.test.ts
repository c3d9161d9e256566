import assert from "node:assert/strict";
import { test } from "node:test";
import { skyOf, skyRows } from "./sky";

test("the sky goes from the colour below over the horizon's to the one above", () => {
  const rows = skyRows({ up: [0, 0, 1], horizon: [1, 1, 1], down: [0, 0, 0] });
  assert.deepEqual([...rows.slice(0, 4)], [0, 0, 0, 255]);
  assert.deepEqual([...rows.slice(-4)], [0, 0, 255, 255]);
  assert.ok((rows[4 * 32] ?? 0) > 240);
});

test("a scene without a sky has none", () => {
  assert.equal(skyOf(undefined), null);
});
