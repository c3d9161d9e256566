import assert from "node:assert/strict";
import { test } from "node:test";
import { DrawLoop } from "./drawLoop";

/** A browser's frames, given out by hand. */
class Frames {
  readonly waiting: ((nowMs: number) => void)[] = [];
  readonly schedule = (frame: (nowMs: number) => void) => this.waiting.push(frame);

  next(nowMs: number): void {
    this.waiting.shift()?.(nowMs);
  }
}

test("many requests make one frame, and no request makes none", () => {
  const frames = new Frames();
  const loop = new DrawLoop(() => true, frames.schedule);
  for (let request = 0; request < 5; request++) loop.request();
  frames.next(0);
  assert.equal(loop.framesDrawn, 1);
  assert.equal(frames.waiting.length, 0);
});

test("a frame that fails is told and the next one is drawn", (context) => {
  const told = context.mock.method(console, "error", () => {});
  const frames = new Frames();
  let isBroken = true;
  const loop = new DrawLoop(() => {
    if (isBroken) throw new Error("a lost device");
    return true;
  }, frames.schedule);
  loop.request();
  frames.next(0);
  isBroken = false;
  loop.request();
  frames.next(16);
  assert.equal(told.mock.callCount(), 1);
  assert.equal(loop.framesDrawn, 1);
});

test("a frame that comes too early is put off, not lost", () => {
  const frames = new Frames();
  const loop = new DrawLoop(() => true, frames.schedule);
  loop.minIntervalMs = 60;
  loop.request();
  frames.next(0);
  loop.request();
  frames.next(16);
  assert.equal(loop.framesDrawn, 1);
  frames.next(66);
  assert.equal(loop.framesDrawn, 2);
});

test("a motion ends with a still frame", (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const frames = new Frames();
  const drawn: string[] = [];
  const loop = new DrawLoop((isMoving) => drawn.push(isMoving ? "moving" : "still") > 0, frames.schedule);
  loop.settleMs = 500;
  for (const nowMs of [1000, 1100, 1200]) {
    loop.request();
    frames.next(nowMs);
  }
  context.mock.timers.tick(500);
  frames.next(1700);
  context.mock.timers.tick(10_000);
  assert.deepEqual(drawn, ["still", "moving", "moving", "still"]);
  assert.equal(frames.waiting.length, 0);
});
