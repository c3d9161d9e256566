// The episode as a LeRobot dataset: made on demand, by running the same episode once more with its seed and changes.

import type { EpisodeChange, EpisodeRequest } from "../api/types";

/** Return the body of POST /execute that does what an episode did, and records it; null where it cannot be recorded. */
export function datasetRequest(
  { pace: _pace, paused: _paused, ...request }: EpisodeRequest,
  seed: number,
  numSteps: number,
  changes: EpisodeChange[] | undefined,
): EpisodeRequest | null {
  // A dataset has a whole number of steps a second.
  if (numSteps === 0 || !Number.isInteger(request.control?.rate_hz ?? 1)) return null;
  const sameMotion = { ...request, seed, changes, max_steps: numSteps };
  return { ...sameMotion, frames: "none", poses: false, preview: false, record: ["lerobot"] };
}
