import assert from "node:assert/strict";
import { test } from "node:test";
import { InstructionHistory } from "./history";

function storage(kept: string | null = null) {
  return {
    kept,
    getItem() {
      return this.kept;
    },
    setItem(_: string, value: string) {
      this.kept = value;
    },
  };
}

test("arrow up goes back, arrow down returns to what was being typed", () => {
  const history = new InstructionHistory(storage());
  history.add("first");
  history.add("second");
  assert.equal(history.older("dra"), "second");
  assert.equal(history.older("second"), "first");
  assert.equal(history.older("first"), "first");
  assert.equal(history.newer("first"), "second");
  assert.equal(history.newer("second"), "dra");
});

test("an instruction is kept once, as the newest", () => {
  const history = new InstructionHistory(storage());
  for (const text of ["first", "second", " first "]) history.add(text);
  assert.deepEqual(history.entries, ["second", "first"]);
});

test("the next page finds them, and damaged ones are none", () => {
  const shared = storage();
  new InstructionHistory(shared).add("first");
  assert.deepEqual(new InstructionHistory(shared).entries, ["first"]);
  assert.deepEqual(new InstructionHistory(storage("{")).entries, []);
});
