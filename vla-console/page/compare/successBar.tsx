import type { Interval } from "./statistics";

/** A rate from 0 to 1 as a mark on a bar, with its interval. */
export function SuccessBar({ name, rate, interval }: { name: string; rate: number | null; interval: Interval | null }) {
  const percent = (value: number) => `${(100 * value).toFixed(1)}%`;
  const text =
    rate === null || interval === null
      ? `${name}: no trials yet`
      : `${name}: ${whole(rate)} %, 95 % interval ${whole(interval.low)} to ${whole(interval.high)} %`;
  return (
    <div class="success-bar" role="img" aria-label={text}>
      {rate !== null && interval !== null && (
        <>
          <i class="interval" style={{ left: percent(interval.low), width: percent(interval.high - interval.low) }} />
          <i class="rate" style={{ left: percent(rate) }} />
        </>
      )}
    </div>
  );
}

/** Return a share as whole percent. */
export function whole(share: number): string {
  return (100 * share).toFixed(0);
}

/** Say how surprising a split is if both sides are alike; `nothing` says that there is no split. */
export function pText(p: number | null, nothing: string): string {
  if (p === null) return nothing;
  return p < 0.001 ? "sign test p < 0.001" : `sign test p = ${p.toFixed(3)}`;
}
