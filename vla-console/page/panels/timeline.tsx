// The episode's timeline: play, scrub, marks, and what to save.

import { useComputed } from "@preact/signals";
import { timelineMarks } from "../episode/marks";
import type { Moment } from "../episode/moment";
import type { RunDesk } from "../episode/runDesk";
import { Button } from "../ui/button";
import { PauseIcon, PlayIcon } from "../ui/icons";
import { SaveMenu } from "./saveMenu";

export function Timeline({ desk, moment }: { desk: RunDesk; moment: Moment }) {
  const { playback } = desk.run;
  const isPlaying = playback.isMoving.value || (playback.isLive.value && playback.isOpen.value);
  return (
    <section class="timeline" aria-label="Recording">
      <Button
        label={isPlaying ? "Hold" : "Play"}
        icon={isPlaying ? <PauseIcon /> : <PlayIcon />}
        iconOnly
        disabled={playback.duration.value === 0}
        onClick={() => (isPlaying ? playback.pause() : playback.play())}
      />
      <div class="track">
        <Marks moment={moment} />
        <Scrubber desk={desk} moment={moment} />
      </div>
      <span class="number muted clock" data-testid="clock">
        {playback.playhead.value.toFixed(1)} / {playback.duration.value.toFixed(1)} s
      </span>
      <SaveMenu desk={desk} />
    </section>
  );
}

function Scrubber({ desk, moment }: { desk: RunDesk; moment: Moment }) {
  const { playback } = desk.run;
  const duration = playback.duration.value;
  return (
    <input
      type="range"
      aria-label="Time"
      aria-valuetext={`${playback.playhead.value.toFixed(1)} s`}
      min={0}
      max={duration}
      step="any"
      disabled={duration === 0}
      value={playback.playhead.value}
      style={{ "--share": duration === 0 ? 0 : playback.playhead.value / duration }}
      onInput={({ currentTarget }) => playback.seek(currentTarget.valueAsNumber)}
      onKeyDown={(event) => {
        if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
        event.preventDefault();
        scrubByAction(desk, moment, event.key === "ArrowLeft" ? -1 : 1);
      }}
    />
  );
}

function Marks({ moment }: { moment: Moment }) {
  const { run } = moment;
  const marks = useComputed(() => timelineMarks(run.start.value, run.steps.value, run.changes.value, run.end.value));
  const duration = run.playback.duration.value;
  if (duration === 0) return null;
  return (
    <div class="marks" aria-hidden="true">
      {marks.value.map(({ kind, time, title }) => (
        // biome-ignore lint/a11y/useKeyWithClickEvents: the arrow keys go from action to action.
        // biome-ignore lint/a11y/noStaticElementInteractions: as above.
        <i
          key={`${kind} ${time}`}
          class={kind}
          title={title}
          style={{ "--at": time / duration }}
          onClick={() => run.playback.seek(time)}
        />
      ))}
    </div>
  );
}

/** Move the playhead to the next or the last action's beginning; at the end of a paused episode, execute one more. */
export function scrubByAction(desk: RunDesk, moment: Moment, direction: -1 | 1): void {
  const { run } = desk;
  const { playhead, duration } = run.playback;
  if (direction > 0 && playhead.value >= duration.value) {
    if (run.status.value === "paused") void run.stepOnce();
    return;
  }
  const times = moment.times.value;
  const next =
    direction > 0
      ? times.find((time) => time > playhead.value + 1e-3)
      : times.findLast((time) => time < playhead.value - 1e-3);
  run.playback.seek(next ?? (direction > 0 ? duration.value : 0));
}
