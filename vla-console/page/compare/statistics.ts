// What a count of successes says: intervals and tests for a few dozen trials.

/** The 97.5 % quantile of the standard normal distribution. */
const Z = 1.959963984540054;

export interface Interval {
  low: number;
  high: number;
}

/** Return Wilson's 95 % interval of a rate; null without trials. */
export function wilsonInterval(successes: number, trials: number): Interval | null {
  if (trials === 0) return null;
  const rate = successes / trials;
  const center = rate + Z ** 2 / (2 * trials);
  const spread = Z * Math.sqrt((rate * (1 - rate)) / trials + Z ** 2 / (4 * trials ** 2));
  const scale = 1 + Z ** 2 / trials;
  return {
    low: successes === 0 ? 0 : (center - spread) / scale,
    high: successes === trials ? 1 : (center + spread) / scale,
  };
}

/** Return the two-sided p of the exact sign test: how surprising this split is if both sides are alike; null without a decision. */
export function signTest(onlyA: number, onlyB: number): number | null {
  const decided = onlyA + onlyB;
  if (decided === 0) return null;
  let tail = 0;
  for (let count = 0; count <= Math.min(onlyA, onlyB); count++) tail += binomialHalf(decided, count);
  return Math.min(1, 2 * tail);
}

/** Return the median; null of an empty list. */
export function median(values: number[]): number | null {
  if (values.length === 0) return null;
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] as number;
  return sorted.length % 2 ? upper : (upper + (sorted[middle - 1] as number)) / 2;
}

/** Return the probability of `count` heads in `trials` tosses, from logarithms so that many tosses do not overflow. */
function binomialHalf(trials: number, count: number): number {
  let logarithm = -trials * Math.LN2;
  for (let i = 1; i <= count; i++) logarithm += Math.log((trials - count + i) / i);
  return Math.exp(logarithm);
}
