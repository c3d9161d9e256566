// How an episode runs, as the Options panel offers it, and the request that it makes.

import type { EpisodeChange, EpisodeRequest, Pace, SceneState, Success } from "../api/types";

export interface RunOptions {
  /** null draws one. */
  seed: number | null;
  maxSteps: number;
  /** "own" is as the policy's server says. */
  execution: "own" | "receding_horizon" | "temporal_ensemble";
  executionHorizon: number;
  ensembleWeight: number;
  rateHz: number;
  latencyMs: number;
  guard: NonNullable<EpisodeRequest["guard"]>;
  pace: Pace;
  showsPath: boolean;
  showsGhost: boolean;
}

export const DEFAULT_OPTIONS: RunOptions = {
  seed: 0,
  maxSteps: 75,
  execution: "own",
  executionHorizon: 1,
  ensembleWeight: 0.1,
  rateHz: 5,
  latencyMs: 0,
  guard: "off",
  pace: "real_time",
  showsPath: true,
  showsGhost: false,
};

/** The server makes an animation of at most this many steps. */
const MAX_ANIMATED_STEPS = 300;

export interface Episode {
  sceneId: string;
  instruction: string;
  success: Success[];
  options: RunOptions;
  state?: SceneState;
  robot?: string;
  changes?: EpisodeChange[];
}

/** Return the body of POST /episodes. */
export function episodeRequest({ sceneId, instruction, success, options, ...rest }: Episode): EpisodeRequest {
  const request: EpisodeRequest = {
    scene_id: sceneId,
    instruction,
    success,
    max_steps: options.maxSteps,
    latency_ms: options.latencyMs,
    guard: options.guard,
    control: { rate_hz: options.rateHz },
    pace: options.pace,
    preview: options.showsPath || options.showsGhost,
    poses: true,
    frames: "png",
    record: options.maxSteps <= MAX_ANIMATED_STEPS ? ["state_log", "webp"] : ["state_log"],
  };
  if (options.seed !== null) request.seed = options.seed;
  if (options.execution === "temporal_ensemble") request.ensemble_weight = options.ensembleWeight;
  if (options.execution === "receding_horizon") request.execution_horizon = options.executionHorizon;
  if (rest.robot) request.robot = rest.robot;
  if (rest.state && Object.keys(rest.state).length) request.state = rest.state;
  if (rest.changes?.length) request.changes = rest.changes;
  return request;
}
