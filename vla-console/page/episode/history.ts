// The instructions that were run from this browser, newest last; arrow up and down go through them.

const KEY = "vla-console.instructions";
const MAX_KEPT = 50;

export class InstructionHistory {
  #entries: string[];
  /** Which entry is shown; the one after the last is what the visitor is typing. */
  #index: number;
  #draft = "";

  constructor(readonly storage: Pick<Storage, "getItem" | "setItem">) {
    this.#entries = readEntries(storage.getItem(KEY));
    this.#index = this.#entries.length;
  }

  get entries(): readonly string[] {
    return this.#entries;
  }

  /** Keep an instruction as the newest one. */
  add(instruction: string): void {
    const text = instruction.trim();
    if (text) this.#entries = [...this.#entries.filter((entry) => entry !== text), text].slice(-MAX_KEPT);
    this.#index = this.#entries.length;
    try {
      this.storage.setItem(KEY, JSON.stringify(this.#entries));
    } catch {
      // A full or forbidden storage: the history lasts as long as the page.
    }
  }

  /** Return the entry before the shown one; `present` is what stands in the box. */
  older(present: string): string {
    if (this.#index === this.#entries.length) this.#draft = present;
    this.#index = Math.max(0, this.#index - 1);
    return this.#entries[this.#index] ?? present;
  }

  /** Return the entry after the shown one, and in the end what was being typed. */
  newer(present: string): string {
    if (this.#index >= this.#entries.length) return present;
    this.#index += 1;
    return this.#entries[this.#index] ?? this.#draft;
  }
}

function readEntries(text: string | null): string[] {
  try {
    const entries: unknown = JSON.parse(text ?? "[]");
    return Array.isArray(entries) ? entries.filter((entry) => typeof entry === "string") : [];
  } catch {
    return [];
  }
}
