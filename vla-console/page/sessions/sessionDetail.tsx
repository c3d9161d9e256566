// One session, watched: what its cameras see, what it does and will do, and how long each step took.

import { useComputed } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import type { SessionStep } from "../api/types";
import { Chip } from "../ui/chip";
import { Panel } from "../ui/panel";
import { Plot, type PlotSeries } from "../ui/plot";
import { actionPlots, SHOWN_STEPS, stepAxis } from "./actionSeries";
import type { SessionRow } from "./sessionList";
import { SessionWatch } from "./sessionWatch";

export function SessionDetail({ row }: { row: SessionRow }) {
  const watch = useMemo(() => new SessionWatch(row.server, row.session.id), [row.server, row.session.id]);
  useEffect(() => {
    void watch.follow();
    return () => watch.stop();
  }, [watch]);
  const last = watch.last.value;
  return (
    <article class="session-detail" aria-label={`Session ${row.session.id}`}>
      <header>
        <h2>{row.session.id}</h2>
        <WatchState watch={watch} isEnded={row.isEnded} />
        <Chip>read-only: the robot does not notice</Chip>
      </header>
      {watch.error.value && (
        <p class="alert" role="alert">
          {watch.error.value}
        </p>
      )}
      <p class="session-said">{last?.instruction ?? row.session.instruction ?? "no instruction"}</p>
      {last ? <Cameras step={last} /> : <p class="muted">Waiting for the robot's next step.</p>}
      {last && (
        <div class="session-panels">
          <Actions watch={watch} />
          <div>
            <Latency watch={watch} />
            <Proprio step={last} />
          </div>
        </div>
      )}
    </article>
  );
}

function WatchState({ watch, isEnded }: { watch: SessionWatch; isEnded: boolean }) {
  const status = isEnded ? "ended" : watch.status.value;
  const tones = { connecting: "plain", live: "good", ended: "plain", error: "bad" } as const;
  const texts = { connecting: "connecting", live: "live", ended: "ended", error: "no stream" };
  return (
    <span role="status">
      <Chip tone={tones[status]}>{texts[status]}</Chip>
    </span>
  );
}

function Cameras({ step }: { step: SessionStep }) {
  return (
    <div class="session-cameras">
      {Object.entries(step.images).map(([name, image]) => (
        <figure key={name}>
          <img src={`data:image/jpeg;base64,${image}`} alt={`Camera ${name} at step ${step.step}`} />
          <figcaption>{name}</figcaption>
        </figure>
      ))}
    </div>
  );
}

function Actions({ watch }: { watch: SessionWatch }) {
  const steps = useComputed(() => stepAxis(watch.steps.value, watch.last.value));
  const plots = useComputed(() => actionPlots(watch.steps.value, watch.last.value));
  const last = watch.last.value;
  return (
    <Panel title="Action" aside={<span class="muted number">step {last?.step}</span>}>
      {plots.value.map(({ title, unit, series, range }) => (
        <Plot
          key={title}
          title={title}
          unit={unit}
          times={steps.value}
          series={series}
          range={range}
          cursor={last?.step ?? 0}
          xUnit=""
        />
      ))}
      <p class="muted session-note">Over control steps; dashed: the rest of the chunk, ahead of now.</p>
    </Panel>
  );
}

function Latency({ watch }: { watch: SessionWatch }) {
  const shown = useComputed(() => watch.steps.value.slice(-SHOWN_STEPS));
  const steps = useComputed(() => shown.value.map(({ step }) => step));
  const series = useComputed<PlotSeries[]>(() => [
    { label: "total", color: "--latency", filled: true, values: shown.value.map(({ timing_ms }) => timing_ms.total) },
    { label: "queue", color: "--warn", values: shown.value.map(({ timing_ms }) => timing_ms.queue) },
    { label: "infer", color: "--accent", values: shown.value.map(({ timing_ms }) => timing_ms.infer) },
  ]);
  const last = watch.last.value;
  return (
    <Panel title="Latency" aside={<b class="number">{last?.timing_ms.total.toFixed(0)} ms</b>}>
      <Plot title="A step" unit="ms" times={steps.value} series={series.value} cursor={last?.step ?? 0} xUnit="" />
      <p class="muted session-note">
        {last?.asked_policy ? "The policy was asked at this step." : "This step's action was in the chunk already."}
      </p>
    </Panel>
  );
}

function Proprio({ step }: { step: SessionStep }) {
  return (
    <Panel title="Proprio">
      {step.proprio?.length ? (
        <ol class="session-proprio number" aria-label="Proprio, as the robot sent it">
          {step.proprio.map((value, index) => (
            <li key={index}>{value.toFixed(3)}</li>
          ))}
        </ol>
      ) : (
        <p class="muted">None was sent, or the policy takes none.</p>
      )}
    </Panel>
  );
}
