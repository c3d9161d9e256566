// The policy's actions over time: what was executed, and dashed the whole chunk ahead of now.

import { useComputed } from "@preact/signals";
import type { StepEvent } from "../api/types";
import type { Moment } from "../episode/moment";
import { Panel } from "../ui/panel";
import { Plot, type PlotSeries } from "../ui/plot";

const PLOTS = [
  { title: "Translation", unit: "m", axes: ["x", "y", "z"], first: 0, range: [-0.02, 0.02], height: 92 },
  { title: "Rotation", unit: "rad", axes: ["roll", "pitch", "yaw"], first: 3, range: [-0.05, 0.05], height: 78 },
  { title: "Gripper", unit: "1 open", axes: ["gripper"], first: 6, range: [0, 1], height: 64 },
] as const;
const COLORS = ["--x", "--y", "--z"];

export function ActionPlots({ moment }: { moment: Moment }) {
  const { run } = moment;
  const data = useComputed(() =>
    actionData(run.steps.value, moment.times.value, moment.chunk.value, moment.index.value),
  );
  return (
    <Panel title="Action" aside={<span class="muted small">dashed: chunk ahead</span>}>
      {PLOTS.map(({ title, unit, axes, first, range, height }) => (
        <Plot
          key={title}
          title={title}
          unit={unit}
          height={height}
          range={[...range]}
          times={data.value.times}
          series={axes.flatMap((axis, index) => seriesOf(data.value, axis, first + index, axes.length))}
          cursor={run.playback.playhead}
          onSeek={(time) => run.playback.seek(time)}
        />
      ))}
    </Panel>
  );
}

export interface ActionData {
  times: number[];
  executed: (number[] | null)[];
  ahead: (number[] | null)[];
}

/** Return the executed actions at the times when they begin, and the chunk's actions from the playhead's on. */
export function actionData(
  steps: readonly StepEvent[],
  times: readonly number[],
  chunk: { first: number; rows: number[][] } | null,
  now: number,
): ActionData {
  const period = (times[1] ?? 0.2) - (times[0] ?? 0);
  const length = Math.max(steps.length, (chunk?.first ?? 0) + (chunk?.rows.length ?? 0));
  const data: ActionData = { times: [], executed: [], ahead: [] };
  for (let index = 0; index < length; index++) {
    data.times.push(times[index] ?? (times.at(-1) ?? 0) + (index - times.length + 1) * period);
    data.executed.push(steps[index]?.action ?? null);
    data.ahead.push(index >= now && chunk !== null ? (chunk.rows[index - chunk.first] ?? null) : null);
  }
  return data;
}

function seriesOf(data: ActionData, label: string, dimension: number, numAxes: number): PlotSeries[] {
  const color = numAxes === 1 ? "--gripper" : (COLORS[dimension % 3] ?? "--x");
  const values = (rows: (number[] | null)[]) => rows.map((row) => row?.[dimension] ?? null);
  return [
    { label, color, values: values(data.executed) },
    { label: `${label} ahead`, color, values: values(data.ahead), dashed: true },
  ];
}
