// The keys that move a selected body: arrows over the table, Page Up and Page Down, comma and full stop to turn it.

import { Vector3 } from "three";

/** One press of a key [m]. */
const STEP = 0.01;
const TURN = Math.PI / 12;

export interface KeyMove {
  /** In the world's frame [m]. */
  delta: Vector3;
  /** About the vertical [rad]. */
  turn: number;
}

/** What a key does where the camera looks along `view`: an arrow moves along the world's axis nearest to it on the screen. */
export function moveOfKey(key: string, view: Vector3): KeyMove | null {
  if (key === "," || key === ".") return { delta: new Vector3(), turn: key === "," ? TURN : -TURN };
  const away = nearestAxis(view);
  const right = new Vector3(away.y, -away.x, 0);
  const up = new Vector3(0, 0, 1);
  const directions: Record<string, [Vector3, number]> = {
    ArrowUp: [away, STEP],
    ArrowDown: [away, -STEP],
    ArrowRight: [right, STEP],
    ArrowLeft: [right, -STEP],
    PageUp: [up, STEP],
    PageDown: [up, -STEP],
  };
  const [direction, length] = directions[key] ?? [null, 0];
  return direction === null ? null : { delta: direction.multiplyScalar(length), turn: 0 };
}

function nearestAxis({ x, y }: Vector3): Vector3 {
  return Math.abs(x) >= Math.abs(y) ? new Vector3(Math.sign(x) || 1, 0, 0) : new Vector3(0, Math.sign(y), 0);
}
