import assert from "node:assert/strict";
import { test } from "node:test";
import { BoxGeometry, Matrix4, Vector3 } from "three";
import { shellOf } from "./outlines";

test("the outline of a box has no gaps at its corners", () => {
  const toBody = new Matrix4().makeTranslation(0, 0, 2);
  const positions = shellOf(new BoxGeometry(2, 2, 2), toBody, 0.1).getAttribute("position");
  const corners = new Set<string>();
  for (let vertex = 0; vertex < positions.count; vertex++) {
    const corner = new Vector3().fromBufferAttribute(positions, vertex);
    assert.ok(Math.abs(corner.distanceTo(new Vector3(0, 0, 2)) - 1.1 * Math.sqrt(3)) < 1e-6);
    corners.add(
      corner
        .toArray()
        .map((x) => x.toFixed(4))
        .join(),
    );
  }
  assert.equal(corners.size, 8);
});
