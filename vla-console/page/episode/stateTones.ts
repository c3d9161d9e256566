// The colour in which an episode's state is shown.

import type { Tone } from "../ui/chip";
import type { RunState } from "./episodeRun";

export const STATE_TONES: Record<RunState, Tone> = {
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
