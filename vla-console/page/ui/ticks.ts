/** Return round numbers within a range, for an axis: 1, 2 or 5 times a power of ten apart, at least two where it can be. */
export function niceTicks(low: number, high: number, wanted = 3): number[] {
  const span = high - low;
  if (!(span > 0) || !Number.isFinite(span)) return [low];
  const ticks = ticksOf(low, high, roundStep(span / wanted));
  return ticks.length < 2 ? ticksOf(low, high, roundStep(span / (2 * wanted))) : ticks;
}

function roundStep(rough: number): number {
  const power = 10 ** Math.floor(Math.log10(rough));
  return ([1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999) ?? 10) * power;
}

function ticksOf(low: number, high: number, step: number): number[] {
  const ticks: number[] = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index++) {
    ticks.push(Number((index * step).toPrecision(12)));
  }
  return ticks;
}
