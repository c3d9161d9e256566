// Trials of a task on both sides: how many to run, and how far they are.

import { useSignal } from "@preact/signals";
import { Button } from "../ui/button";
import { NumberField } from "../ui/field";
import { PlayIcon, StopIcon } from "../ui/icons";
import { useShortcuts } from "../ui/shortcuts";
import type { Comparison } from "./comparison";
import { Sides, TaskFields } from "./setup";
import { SIDES } from "./side";
import { TrialsResults } from "./trialsResults";

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
        <TrialsResults runner={runner} />
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
