// What came of the trials: a summary of each side, the pairs, and every placement.

import { useComputed } from "@preact/signals";
import { Button } from "../ui/button";
import { Chip } from "../ui/chip";
import { LinkIcon, SaveIcon } from "../ui/icons";
import { saveText } from "./download";
import { SIDES, type SideName } from "./side";
import { pText, SuccessBar, whole } from "./successBar";
import type { TrialRunner } from "./trialRunner";
import { comparePairs, type Outcome, summarize, type Trial, trialsCsv } from "./trials";

export function TrialsResults({ runner }: { runner: TrialRunner }) {
  const trials = runner.trials.value;
  const pairs = useComputed(() => comparePairs(runner.trials.value));
  const { num, both, onlyA, onlyB, neither, p } = pairs.value;
  return (
    <div class="trials">
      <div class="trials-summary">
        {SIDES.map((side) => (
          <Summary key={side} side={side} name={runner.names.value[side]} trials={trials} />
        ))}
        <section class="panel" aria-label="Paired difference">
          <header>
            <h2>Paired by placement</h2>
            <span class="muted number">{num} pairs</span>
          </header>
          <p class="trials-pairs number">
            only A <b>{onlyA}</b> · only B <b>{onlyB}</b> · both <b>{both}</b> · neither <b>{neither}</b>
          </p>
          <p class="muted">{pText(p, "no placement that only one side solved")}</p>
          <div class="trials-downloads">
            <Button label="CSV" icon={<SaveIcon />} aria-label="Download CSV" onClick={() => saveCsv(runner)} />
            <Button label="JSON" icon={<SaveIcon />} aria-label="Download JSON" onClick={() => saveJson(runner)} />
          </div>
        </section>
      </div>
      <Table trials={trials} />
    </div>
  );
}

function Summary({ side, name, trials }: { side: SideName; name: string; trials: Trial[] }) {
  const { successes, tried, errors, rate, interval, steps, predictMs } = summarize(trials, side);
  return (
    <section class="panel" aria-label={`Result of side ${side}`}>
      <header>
        <h2>
          <b class={`side-mark ${side}`}>{side}</b> {name}
        </h2>
      </header>
      <p class="trials-rate number">
        <b>{rate === null ? "–" : `${whole(rate)} %`}</b>
        <span>
          {successes} of {tried}
          {interval && `, 95 % between ${whole(interval.low)} and ${whole(interval.high)} %`}
        </span>
      </p>
      <SuccessBar name={`Side ${side}`} rate={rate} interval={interval} />
      <p class="muted number">
        median {steps ?? "–"} steps · predict {predictMs === null ? "–" : `${predictMs.toFixed(1)} ms`}
        {errors > 0 && ` · ${errors} errors`}
      </p>
    </section>
  );
}

function Table({ trials }: { trials: Trial[] }) {
  return (
    <div class="trials-table">
      <table>
        <caption class="muted">Every placement; the link opens it in the run view.</caption>
        <thead>
          <tr>
            <th scope="col">Seed</th>
            {SIDES.map((side) => (
              <th key={side} scope="col" colSpan={4}>
                <b class={`side-mark ${side}`}>{side}</b>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {trials.map(({ seed, outcomes }) => (
            <tr key={seed}>
              <th scope="row">{seed}</th>
              {SIDES.map((side) => (
                <OutcomeCells key={side} name={`seed ${seed}, side ${side}`} outcome={outcomes[side]} />
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

const TONES = { running: "accent", success: "good", failure: "warn", error: "bad" } as const;

function OutcomeCells({ name, outcome }: { name: string; outcome: Outcome | null }) {
  if (outcome === null) return <td colSpan={4} class="muted" />;
  const { status, reason, steps, predictMs, link } = outcome;
  return (
    <>
      <td title={reason}>
        <Chip tone={TONES[status]}>{status === "failure" ? reason.replace("_", " ") : status}</Chip>
      </td>
      <td class="number">{steps ? `${steps} steps` : ""}</td>
      <td class="number">{predictMs === null ? "" : `${predictMs.toFixed(1)} ms`}</td>
      <td>
        {link && (
          <a href={link} target="_blank" rel="noopener" aria-label={`Open ${name} in the run view`}>
            <LinkIcon />
          </a>
        )}
      </td>
    </>
  );
}

function saveCsv({ trials, names, plan }: TrialRunner): void {
  const task = plan.value?.task.name ?? "";
  saveText(`trials-${task}.csv`, trialsCsv(trials.value, names.value, task), "text/csv");
}

function saveJson({ trials, names, plan }: TrialRunner): void {
  const task = plan.value?.task.name ?? "";
  const results = Object.fromEntries(SIDES.map((side) => [side, summarize(trials.value, side)]));
  const report = {
    task,
    sides: names.value,
    settings: plan.value?.sides,
    results,
    pairs: comparePairs(trials.value),
    trials: trials.value,
  };
  saveText(`trials-${task}.json`, JSON.stringify(report, null, 2), "application/json");
}
