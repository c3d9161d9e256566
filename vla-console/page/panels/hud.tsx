// What stands over the scene: the episode's state, its clock, and what the gripper does.

import type { RunState } from "../episode/episodeRun";
import type { Moment } from "../episode/moment";
import { graspState } from "../episode/motion";
import type { RunDesk } from "../episode/runDesk";
import type { SceneView } from "../episode/sceneView";
import { Button } from "../ui/button";
import { Chip, type Tone } from "../ui/chip";
import { ResetIcon } from "../ui/icons";

const TONES: Record<RunState, Tone> = {
  idle: "plain",
  starting: "accent",
  running: "accent",
  paused: "warn",
  success: "good",
  max_steps: "warn",
  rejected: "bad",
  stopped: "plain",
  error: "bad",
};

export function Hud({ desk, moment, view }: { desk: RunDesk; moment: Moment; view: SceneView }) {
  const { run } = desk;
  const step = moment.step.value;
  const moved = Object.keys(desk.moved.value);
  return (
    <div class="hud">
      <Chip solid tone={TONES[run.status.value]} role="status" data-testid="state">
        {run.status.value}
      </Chip>
      <Chip solid data-testid="time">
        <PlayheadTime run={run} />
      </Chip>
      <Chip solid data-testid="step">
        step {moment.index.value + 1}
      </Chip>
      {step !== null && (
        <Chip solid data-testid="grasp">
          {graspState(step, view.freeNames.value)}
        </Chip>
      )}
      {run.playback.isOpen.value && !run.playback.isLive.value && (
        <button type="button" class="chip solid accent" onClick={() => run.playback.goLive()}>
          go to live
        </button>
      )}
      {moved.length > 0 && (
        <Chip solid tone="accent" data-testid="moved">
          {moved.length === 1 ? moved[0] : `${moved.length} objects`} moved
        </Chip>
      )}
      <Button
        label="Reset"
        icon={<ResetIcon />}
        kind="quiet"
        iconOnly
        class="button quiet icon-only over"
        onClick={desk.reset}
      />
    </div>
  );
}

function PlayheadTime({ run }: Pick<RunDesk, "run">) {
  return <>{run.playback.playhead.value.toFixed(1)} s</>;
}
