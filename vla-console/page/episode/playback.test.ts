import assert from "node:assert/strict";
import { test } from "node:test";
import type { Pose, PoseFrame } from "../api/types";
import { interpolatePose, Playback, upperBound } from "./playback";

const at = (x: number): PoseFrame => [[x, 0, 0, 1, 0, 0, 0]];

function recording(): Playback {
  const playback = new Playback();
  for (let index = 0; index <= 10; index++) playback.add(index / 10, at(index));
  return playback;
}

test("a frame between two is interpolated", () => {
  assert.ok(Math.abs((recording().frameAt(0.25)?.[0]?.[0] ?? 0) - 2.5) < 1e-9);
});

test("before the first frame and after the last stand those", () => {
  const playback = recording();
  assert.deepEqual(playback.frameAt(-1), at(0));
  assert.deepEqual(playback.frameAt(9), at(10));
});

test("a playback without frames shows nothing and ticks on", () => {
  const playback = new Playback();
  playback.tick(0.1);
  playback.play();
  playback.tick(0.1);
  assert.equal(playback.frameAt(0), null);
  assert.equal(playback.playhead.value, 0);
});

test("a rotation takes the shorter arc", () => {
  const half = Math.SQRT1_2;
  const pose = interpolatePose([0, 0, 0, 1, 0, 0, 0], [0, 0, 0, -half, 0, 0, -half], 0.5);
  const expected: Pose = [0, 0, 0, Math.cos(Math.PI / 8), 0, 0, Math.sin(Math.PI / 8)];
  pose.forEach((value, index) => {
    assert.ok(Math.abs(value - (expected[index] ?? 0)) < 1e-9);
  });
});

test("live follows what comes, and a scrubbed playhead stays where it was put", () => {
  const playback = recording();
  playback.isOpen.value = true;
  for (let index = 0; index < 100; index++) playback.tick(0.05);
  assert.equal(playback.playhead.value, 1);
  playback.seek(0.4);
  playback.add(1.1, at(11));
  playback.tick(0.05);
  assert.equal(playback.playhead.value, 0.4);
  assert.equal(playback.isLive.value, false);
});

test("play at the end of an episode that is over begins at its start", () => {
  const playback = recording();
  playback.seek(1);
  playback.play();
  assert.equal(playback.playhead.value, 0);
  playback.tick(0.1);
  assert.ok(Math.abs(playback.playhead.value - 0.1) < 1e-9);
});

test("two frames of one time are a jump", () => {
  const playback = recording();
  playback.add(1, at(50));
  assert.deepEqual(playback.frameAt(1), at(50));
  assert.ok((playback.frameAt(0.99)?.[0]?.[0] ?? 99) < 10.001);
});

test("upperBound counts the times up to a time", () => {
  assert.equal(upperBound([0, 1, 1, 2], 1), 3);
});
