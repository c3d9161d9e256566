import assert from "node:assert/strict";
import { test } from "node:test";
import { Vector3 } from "three";
import { moveOfKey } from "./moveKeys";

/** From the robot's front, a little from above. */
const TOWARDS_ROBOT = new Vector3(-0.8, 0.3, -0.5);

function moved(key: string): number[] | undefined {
  return moveOfKey(key, TOWARDS_ROBOT)
    ?.delta.toArray()
    .map((x) => Math.round(x * 1000));
}

test("an arrow moves an object by a centimetre in the direction it has on the screen", () => {
  assert.deepEqual(moved("ArrowUp"), [-10, 0, 0]);
  assert.deepEqual(moved("ArrowRight"), [0, 10, 0]);
  assert.deepEqual(moved("PageUp"), [0, 0, 10]);
});

test("comma and full stop turn it, and other keys are the page's", () => {
  assert.ok((moveOfKey(",", TOWARDS_ROBOT)?.turn ?? 0) > 0);
  assert.ok((moveOfKey(".", TOWARDS_ROBOT)?.turn ?? 0) < 0);
  assert.equal(moveOfKey(" ", TOWARDS_ROBOT), null);
});
