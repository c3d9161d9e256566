import assert from "node:assert/strict";
import { test } from "node:test";
import { DEFAULT_OPTIONS } from "./options";
import { keepEpisode, keptEpisode, type TabEpisode } from "./reload";

const episode: TabEpisode = { base: "/", id: "e1", request: { instruction: "wave" }, options: DEFAULT_OPTIONS };

class FakeStorage {
  text: string | null = null;
  getItem = () => this.text;
  setItem = (_key: string, text: string) => {
    this.text = text;
  };
  removeItem = () => {
    this.text = null;
  };
}

test("a tab comes back to the episode that it had on this server", () => {
  const storage = new FakeStorage();
  keepEpisode(storage, episode);
  assert.deepEqual(keptEpisode(storage, "/"), episode);
  assert.equal(keptEpisode(storage, "/servers/1/"), null);
  keepEpisode(storage, null);
  assert.equal(keptEpisode(storage, "/"), null);
});

test("what is damaged is ignored", () => {
  const storage = new FakeStorage();
  storage.text = "{";
  assert.equal(keptEpisode(storage, "/"), null);
});
