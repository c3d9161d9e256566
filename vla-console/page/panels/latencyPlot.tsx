// What a step costs, stage by stage.

import { useComputed } from "@preact/signals";
import type { StepTiming } from "../api/types";
import type { Moment } from "../episode/moment";
import { Panel } from "../ui/panel";
import { Plot } from "../ui/plot";

const STAGES: [keyof StepTiming, string][] = [
  ["predict", "--latency"],
  ["preview", "--z"],
  ["physics", "--y"],
  ["render", "--gripper"],
];

export function LatencyPlot({ moment }: { moment: Moment }) {
  const { run } = moment;
  const series = useComputed(() =>
    STAGES.map(([stage, color]) => ({
      label: stage,
      color,
      values: [...run.steps.value.map((step) => step.timing_ms[stage]), null],
      value: moment.step.value === null ? undefined : moment.step.value.timing_ms[stage].toFixed(0),
    })),
  );
  const total = moment.step.value?.timing_ms.total;
  return (
    <Panel title="Latency" aside={<b class="number">{total === undefined ? "" : `${total.toFixed(0)} ms a step`}</b>}>
      <Plot
        title="Stages"
        unit="ms"
        height={84}
        range={[0, 20]}
        times={moment.times.value}
        series={series.value}
        cursor={run.playback.playhead}
        onSeek={(time) => run.playback.seek(time)}
      />
    </Panel>
  );
}
