// What stands over the scene: the episode's state, its clock, and what the gripper does.

import type { Moment } from "../episode/moment";
import { graspState } from "../episode/motion";
import type { RunDesk } from "../episode/runDesk";
import type { SceneView } from "../episode/sceneView";
import { STATE_TONES } from "../episode/stateTones";
import { Button } from "../ui/button";
import { Chip } from "../ui/chip";
import { ResetIcon } from "../ui/icons";

export function Hud({ desk, moment, view }: { desk: RunDesk; moment: Moment; view: SceneView }) {
  const { run } = desk;
  const step = moment.step.value;
  const unknown = run.start.value?.unknown_words ?? [];
  const moved = Object.keys(desk.moved.value);
  return (
    <div class="hud">
      <Chip solid tone={STATE_TONES[run.status.value]} role="status" data-testid="state">
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
      {unknown.length > 0 && (
        <Chip solid tone="warn" data-testid="unknown-words">
          the policy does not know: {unknown.join(", ")}
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
      <div class="hud-tools">
        <LookFrom view={view} />
        <Button
          label="Reset"
          icon={<ResetIcon />}
          kind="quiet"
          iconOnly
          class="button quiet icon-only over"
          onClick={desk.reset}
        />
      </div>
    </div>
  );
}

/** Whose eyes the scene is seen with: the visitor's own, or one of the scene's cameras. */
function LookFrom({ view }: { view: SceneView }) {
  const cameras = view.info.value?.cameras ?? [];
  if (cameras.length === 0) return null;
  return (
    <select
      class="over"
      aria-label="Look from"
      onChange={({ currentTarget }) => view.viewer.value?.lookFrom(currentTarget.value || null)}
    >
      <option value="">orbit</option>
      {cameras.map((camera) => (
        <option key={camera} value={camera}>
          {camera}
        </option>
      ))}
    </select>
  );
}

function PlayheadTime({ run }: Pick<RunDesk, "run">) {
  return <>{run.playback.playhead.value.toFixed(1)} s</>;
}
