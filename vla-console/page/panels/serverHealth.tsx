// How the server is, and how busy.

import type { LoadReply } from "../api/types";
import type { Connection } from "../episode/connection";
import { Panel } from "../ui/panel";

export function ServerHealth({ connection }: { connection: Connection }) {
  const load = connection.load.value;
  const state = connection.isLost.value ? "lost" : (load?.status ?? "…");
  return (
    <Panel title="Health" aside={<b class={state === "healthy" ? "good-text" : "bad-text"}>{state}</b>}>
      {load !== null && (
        <dl class="facts" aria-label="Load">
          <Fact name="queue" value={`${load.queue.waiting} of ${load.queue.max}`} />
          <Fact name="predict, p50 / p95" value={latency(load.predict_ms)} />
          <Fact name="scene workers busy" value={`${load.scene_workers.busy} of ${load.scene_workers.num}`} />
          <Fact name="episodes" value={`${load.episodes.running} of ${load.episodes.max}`} />
          <Fact name="sessions" value={`${load.sessions.num} of ${load.sessions.max}`} />
          <Fact name="memory" value={`${load.memory_mb.toFixed(0)} MB`} />
          <Fact name="up for" value={duration(load.uptime_s)} />
        </dl>
      )}
    </Panel>
  );
}

function Fact({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd class="number">{value}</dd>
    </div>
  );
}

function latency(predict: LoadReply["predict_ms"]): string {
  return predict === null ? "–" : `${predict.p50.toFixed(0)} / ${predict.p95.toFixed(0)} ms`;
}

function duration(seconds: number): string {
  if (seconds < 90) return `${seconds.toFixed(0)} s`;
  if (seconds < 5400) return `${(seconds / 60).toFixed(0)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}
