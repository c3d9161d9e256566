import assert from "node:assert/strict";
import { test } from "node:test";
import { assignSides, type Choice, keepVotes, keptVotes, MAX_KEPT_VOTES, tally, type Vote } from "./blind";

function vote(left: string, right: string, choice: Choice): Vote {
  const shown = { left, right };
  const progress = { left: null, right: null };
  return { time: "", task: null, instruction: "push", scene: "s", seed: 0, shown, choice, progress, comment: "" };
}

function storage() {
  const items = new Map<string, string>();
  return {
    getItem: (key: string) => items.get(key) ?? null,
    setItem: (key: string, value: string) => void items.set(key, value),
  };
}

test("the draw decides which side is shown left", () => {
  assert.deepEqual(
    assignSides(() => 2),
    ["A", "B"],
  );
  assert.deepEqual(
    assignSides(() => 3),
    ["B", "A"],
  );
});

test("each side is left about half the time", () => {
  const num = Array.from({ length: 2000 }, () => assignSides()).filter(([left]) => left === "A").length;
  assert.ok(num > 850 && num < 1150, `${num} of 2000`);
});

test("votes are counted for the side, wherever it stood", () => {
  const votes = [vote("x", "y", "left"), vote("y", "x", "right"), vote("y", "x", "left"), vote("x", "y", "tie")];
  const [count] = tally(votes);
  assert.deepEqual(count?.pair, ["x", "y"]);
  assert.deepEqual(count?.wins, [2, 1]);
  assert.equal(count?.ties, 1);
  assert.equal(count?.p, 1);
  assert.ok(Math.abs((count?.share ?? 0) - 2 / 3) < 1e-12);
});

test("each pair has its own tally, and ties alone are no evidence", () => {
  const counts = tally([vote("x", "y", "tie"), vote("x", "z", "left")]);
  assert.equal(counts.length, 2);
  assert.equal(counts[0]?.interval, null);
  assert.equal(counts[0]?.p, null);
});

test("votes are kept, the newest of them where they are too many", () => {
  const kept = storage();
  const votes = Array.from({ length: MAX_KEPT_VOTES + 3 }, (_, i) => ({ ...vote("x", "y", "left"), seed: i }));
  keepVotes(votes, kept);
  assert.equal(keptVotes(kept).length, MAX_KEPT_VOTES);
  assert.equal(keptVotes(kept)[0]?.seed, 3);
});

test("a broken storage is an empty list of votes", () => {
  assert.deepEqual(keptVotes({ getItem: () => "{" }), []);
});
