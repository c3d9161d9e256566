// A small plot over time: units on its axis, colours of the theme, and a cursor at the playhead.

import { effect, type ReadonlySignal, untracked } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { color, theme } from "./theme";
import { niceTicks } from "./ticks";

export interface PlotSeries {
  label: string;
  /** A colour of theme.css, such as "--x". */
  color: string;
  values: (number | null)[];
  /** Predicted rather than executed. */
  dashed?: boolean;
  /** Filled down to zero. */
  filled?: boolean;
  /** What the legend says of it, such as its value at the cursor. */
  value?: string;
}

interface Props {
  title: string;
  unit: string;
  times: number[];
  series: PlotSeries[];
  /** Where the cursor stands [s]; as a signal it moves without anything else being drawn. */
  cursor?: number | ReadonlySignal<number>;
  /** A range of values that is always shown. */
  range?: [number, number];
  height?: number;
  /** The unit of `times`, if they are none. */
  xUnit?: string;
  onSeek?(time: number): void;
}

export function Plot({ title, unit, times, series, cursor, range, height = 84, xUnit = "s", onSeek }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const shown = useRef({ cursor, range, onSeek });
  shown.current = { cursor, range, onSeek };
  const look = `${theme.value} ${height} ${series.map((one) => one.label + one.color).join()}`;

  useEffect(() => {
    const element = box.current;
    if (element === null) return;
    const made = new uPlot(
      plotOptions(element.clientWidth, height, xUnit, series, shown),
      plotData(times, series),
      element,
    );
    plot.current = made;
    made.over.appendChild(document.createElement("i")).className = "plot-cursor";
    const watch = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height }));
    watch.observe(element);
    return () => {
      watch.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [look]);
  useEffect(() => plot.current?.setData(plotData(times, series)), [times, series]);
  useEffect(() => effect(() => placeCursor(plot.current, cursor)), [cursor, look]);

  return (
    <figure class="plot" aria-label={`${title} [${unit}]`}>
      <figcaption>
        <span>
          {title} <i>[{unit}]</i>
        </span>
        <span class="legend">
          {series
            .filter((one) => !one.dashed)
            .map((one) => (
              <span key={one.label}>
                <i style={{ background: `var(${one.color})` }} />
                {one.label}
                {one.value !== undefined && <b>{one.value}</b>}
              </span>
            ))}
        </span>
      </figcaption>
      <div ref={box} />
    </figure>
  );
}

function plotData(times: number[], series: PlotSeries[]): uPlot.AlignedData {
  return [times, ...series.map((one) => one.values)];
}

type Shown = { current: Pick<Props, "cursor" | "range" | "onSeek"> };

function plotOptions(width: number, height: number, xUnit: string, series: PlotSeries[], shown: Shown): uPlot.Options {
  const axis = { stroke: color("--muted"), font: "10px system-ui, sans-serif" };
  const grid = { stroke: color("--line"), width: 1 };
  return {
    width,
    height,
    legend: { show: false },
    padding: [6, 12, 0, 0],
    cursor: { show: false },
    scales: {
      x: { time: false, range: ({ data: [times] }) => shownTimes(times) },
      y: { range: (_, low, high) => shownRange(low, high, shown.current.range) },
    },
    axes: [
      {
        ...axis,
        grid,
        ticks: { show: false },
        size: 18,
        gap: 2,
        splits: (_, __, low, high) => niceTicks(low, high, 4),
        values: (_, ticks) => ticks.map((tick, index) => (index < ticks.length - 1 ? `${tick}` : `${tick} ${xUnit}`)),
      },
      {
        ...axis,
        grid,
        ticks: { show: false },
        size: 40,
        gap: 4,
        splits: (_, __, low, high) => niceTicks(low, high, 3),
      },
    ],
    series: [
      {},
      ...series.map((one) => ({
        label: one.label,
        stroke: color(one.color),
        width: 1.5,
        dash: one.dashed ? [3, 3] : undefined,
        alpha: one.dashed ? 0.7 : 1,
        fill: one.filled ? `${color(one.color)}33` : undefined,
        points: { show: false },
      })),
    ],
    hooks: {
      draw: [(made) => untracked(() => placeCursor(made, shown.current.cursor))], // The scale has changed.
      ready: [(made) => followPointer(made, shown)],
    },
  };
}

/** From the first to the last time, and at least 1. */
function shownTimes(times: ArrayLike<number>): [number, number] {
  const [first, last] = [times[0] ?? 0, times[times.length - 1] ?? 0];
  return [first, Math.max(last, first + 1)];
}

/** A little more than the values and the given range; where both are one value, 1 around it. */
function shownRange(low: number | null, high: number | null, range?: [number, number]): [number, number] {
  const bottom = Math.min(low ?? 0, range?.[0] ?? Number.POSITIVE_INFINITY);
  const top = Math.max(high ?? 0, range?.[1] ?? Number.NEGATIVE_INFINITY);
  const margin = top > bottom ? (top - bottom) * 0.08 : 1;
  return [bottom - margin, top + margin];
}

function placeCursor(plot: uPlot | null, cursor: Props["cursor"]): void {
  const time = typeof cursor === "object" ? cursor.value : cursor;
  const line = plot?.over.querySelector<HTMLElement>(".plot-cursor");
  if (!plot || !line) return;
  const left = time === undefined ? Number.NaN : plot.valToPos(time, "x");
  line.hidden = !(left >= 0 && left <= plot.over.clientWidth);
  if (!line.hidden) line.style.transform = `translateX(${left}px)`;
}

function followPointer(plot: uPlot, shown: Shown): void {
  const seek = (event: PointerEvent) => {
    if (event.buttons === 1) shown.current.onSeek?.(plot.posToVal(event.offsetX, "x"));
  };
  plot.over.addEventListener("pointerdown", seek);
  plot.over.addEventListener("pointermove", seek);
}
