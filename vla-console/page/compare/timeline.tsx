// The one timeline of both sides: play, scrub, and where on it each side ended.

import { Button } from "../ui/button";
import { PauseIcon, PlayIcon } from "../ui/icons";
import type { PairRun } from "./pairRun";

export function Timeline({ pair }: { pair: PairRun }) {
  const { playback } = pair;
  const { playhead, duration, isMoving } = playback;
  return (
    <footer class="compare-timeline">
      <Button
        label={isMoving.value ? "Pause both" : "Play both"}
        icon={isMoving.value ? <PauseIcon /> : <PlayIcon />}
        iconOnly
        disabled={duration.value === 0}
        onClick={() => togglePlay(pair)}
      />
      <input
        type="range"
        aria-label="Time of both sides"
        aria-valuetext={`${playhead.value.toFixed(1)} of ${duration.value.toFixed(1)} seconds`}
        min={0}
        max={Math.max(duration.value, 0.01)}
        step={0.01}
        value={playhead.value}
        style={{ "--share": duration.value === 0 ? 0 : playhead.value / duration.value }}
        disabled={duration.value === 0}
        onInput={({ currentTarget }) => playback.seek(currentTarget.valueAsNumber)}
      />
      <output class="muted number">
        {playhead.value.toFixed(1)} / {duration.value.toFixed(1)} s
      </output>
    </footer>
  );
}

export function togglePlay({ playback }: PairRun): void {
  if (playback.isMoving.peek()) playback.pause();
  else playback.play();
}

/** The keys of a timeline: space plays and pauses, the arrows step a tenth of a second. */
export function timelineKeys(pair: PairRun): Record<string, () => void> {
  const by = (seconds: number) => () => pair.playback.seek(pair.playback.playhead.peek() + seconds);
  return { " ": () => togglePlay(pair), ArrowLeft: by(-0.1), ArrowRight: by(0.1) };
}
