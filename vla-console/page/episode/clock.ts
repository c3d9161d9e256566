// The page's own clock: moves a playhead while there is something to play, and costs nothing otherwise.

import { effect } from "@preact/signals";
import type { Playback } from "./playback";

/** A tab in the background gets no frames: what passed meanwhile is not played at once. */
const MAX_ELAPSED_S = 1;

/** Drive a playhead; call the result to stop. */
export function drive(playback: Playback): () => void {
  let request = 0;
  let last = 0;
  const draw = (now: number) => {
    request = requestAnimationFrame(draw); // First: an error below must not end the loop.
    playback.tick(Math.min((now - last) / 1e3, MAX_ELAPSED_S));
    last = now;
  };
  const stop = () => {
    cancelAnimationFrame(request);
    request = 0;
  };
  const unwatch = effect(() => {
    if (!playback.isMoving.value) return stop();
    if (request !== 0) return;
    last = performance.now();
    request = requestAnimationFrame(draw);
  });
  return () => {
    unwatch();
    stop();
  };
}
