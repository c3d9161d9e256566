// A blind comparison: which side is shown left is drawn and hidden until the vote; votes are kept and counted.

import { SIDES, type SideName } from "./side";
import { type Interval, signTest, wilsonInterval } from "./statistics";

export type Choice = "left" | "right" | "tie";

export interface Vote {
  time: string;
  task: string | null;
  instruction: string;
  scene: string;
  seed: number;
  /** What was shown left and right: server and settings. */
  shown: { left: string; right: string };
  choice: Choice;
  /** How far each came, in the voter's eyes, 0 to 100; null where not said. */
  progress: { left: number | null; right: number | null };
  comment: string;
}

/** The votes on one pair of sides. */
export interface Tally {
  pair: [string, string];
  wins: [number, number];
  ties: number;
  /** Share of the decided votes that the first of the pair won, with Wilson's 95 % interval. */
  share: number | null;
  interval: Interval | null;
  /** Two-sided p of the sign test over the decided votes. */
  p: number | null;
}

export const MAX_KEPT_VOTES = 500;

/** Draw which side is shown left: a fair coin from the browser's own generator. */
export function assignSides(draw: () => number = randomByte): [left: SideName, right: SideName] {
  return draw() % 2 ? [SIDES[1], SIDES[0]] : [SIDES[0], SIDES[1]];
}

/** Count the votes pair by pair; where a side stood does not matter. */
export function tally(votes: Vote[]): Tally[] {
  const tallies = new Map<string, Tally>();
  for (const { shown, choice } of votes) {
    const pair = [shown.left, shown.right].sort() as [string, string];
    const key = JSON.stringify(pair);
    const count = tallies.get(key) ?? { pair, wins: [0, 0], ties: 0, share: null, interval: null, p: null };
    tallies.set(key, count);
    if (choice === "tie") count.ties += 1;
    else count.wins[shown[choice] === pair[0] ? 0 : 1] += 1;
  }
  return [...tallies.values()].map(withStatistics);
}

/** Read the votes that this browser keeps. */
export function keptVotes(storage: Pick<Storage, "getItem"> = localStorage): Vote[] {
  try {
    const votes = JSON.parse(storage.getItem(STORAGE_KEY) ?? "[]");
    return Array.isArray(votes) ? votes : [];
  } catch {
    return [];
  }
}

/** Keep the votes, the newest of them where they are too many, and return those that are kept. */
export function keepVotes(votes: Vote[], storage: Pick<Storage, "setItem"> = localStorage): Vote[] {
  const newest = votes.slice(-MAX_KEPT_VOTES);
  storage.setItem(STORAGE_KEY, JSON.stringify(newest));
  return newest;
}

const STORAGE_KEY = "vla-console.votes";

function withStatistics(count: Tally): Tally {
  const [first, second] = count.wins;
  const decided = first + second;
  return {
    ...count,
    share: decided ? first / decided : null,
    interval: wilsonInterval(first, decided),
    p: signTest(first, second),
  };
}

function randomByte(): number {
  return crypto.getRandomValues(new Uint8Array(1))[0] ?? 0;
}
