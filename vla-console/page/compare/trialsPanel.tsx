// Placements of a task on both sides: a running table, and what the successes say.

import { useComputed, useSignal } from "@preact/signals";
import { Button } from "../ui/button";
import { Chip } from "../ui/chip";
import { NumberField } from "../ui/field";
import { LinkIcon, PlayIcon, SaveIcon, StopIcon } from "../ui/icons";
import { useShortcuts } from "../ui/shortcuts";
import type { Comparison } from "./comparison";
import { saveText } from "./download";
import { Sides, TaskFields } from "./setup";
import { SIDES, type SideName } from "./side";
import { pText, SuccessBar, whole } from "./successBar";
import { comparePairs, type Outcome, summarize, type Trial, trialsCsv } from "./trials";

export function TrialsPanel({ comparison }: { comparison: Comparison }) {
  const num = useSignal(20);
  const concurrency = useSignal(1);
  const { trials: runner } = comparison;
  const task = comparison.task.value ?? comparison.tasks.value[0];
  const run = () => {
    if (task !== undefined) comparison.runTrials(task, num.value, concurrency.value);
  };
  useShortcuts({ Escape: () => runner.stop() });
  return (
    <>
      <form
        class="compare-bar"
        aria-label="Trials"
        onSubmit={(event) => {
          event.preventDefault();
          run();
        }}
      >
        <TaskFields comparison={comparison} hasFreeText={false} />
        <NumberField
          label="Placements"
          value={num.value}
          min={1}
          max={500}
          onChange={(value) => {
            num.value = value ?? 20;
          }}
        />
        <NumberField
          label="At once"
          value={concurrency.value}
          min={1}
          max={2}
          onChange={(value) => {
            concurrency.value = value ?? 1;
          }}
        />
        <Button
          type="submit"
          kind="primary"
          label="Run trials"
          icon={<PlayIcon />}
          disabled={task === undefined || runner.isRunning.value}
        />
        <Button
          label="Stop trials"
          icon={<StopIcon />}
          disabled={!runner.isRunning.value}
          onClick={() => runner.stop()}
        />
        <Progress comparison={comparison} />
      </form>
      <Sides comparison={comparison} />
      {runner.trials.value.length === 0 ? (
        <p class="compare-empty muted">
          Run trials: each side gets the same placements of the objects, and the table counts its successes.
        </p>
      ) : (
        <Results comparison={comparison} />
      )}
    </>
  );
}

function Progress({ comparison: { trials: runner } }: { comparison: Comparison }) {
  const trials = runner.trials.value;
  if (trials.length === 0) return null;
  const outcomes = trials.flatMap((trial) => SIDES.map((side) => trial.outcomes[side]));
  const ended = outcomes.filter((outcome) => outcome !== null && outcome.status !== "running").length;
  return (
    <p class="trials-progress muted number" role="status">
      {ended} of {outcomes.length} episodes
      {runner.isRunning.value ? "" : ended < outcomes.length ? ", stopped" : ", done"}
    </p>
  );
}

function Results({ comparison }: { comparison: Comparison }) {
  const { trials: runner } = comparison;
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
            <Button label="CSV" icon={<SaveIcon />} aria-label="Download CSV" onClick={() => saveCsv(comparison)} />
            <Button label="JSON" icon={<SaveIcon />} aria-label="Download JSON" onClick={() => saveJson(comparison)} />
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

function saveCsv({ trials: { trials, names, plan } }: Comparison): void {
  const task = plan.value?.task.name ?? "";
  saveText(`trials-${task}.csv`, trialsCsv(trials.value, names.value, task), "text/csv");
}

function saveJson({ trials: { trials, names, plan } }: Comparison): void {
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
