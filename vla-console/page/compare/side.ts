// One of the two sides that are compared: a server and how its policy's chunks are executed.

import type { EpisodeRequest } from "../api/types";
import type { RunOptions } from "../episode/options";

export const SIDES = ["A", "B"] as const;
export type SideName = (typeof SIDES)[number];

/** "own" is as the policy's server says. */
export type Mode = "own" | "horizon" | "ensemble";
export type Guard = NonNullable<EpisodeRequest["guard"]>;

export interface Side {
  /** Index into the servers that the page knows. */
  server: number;
  mode: Mode;
  /** Actions of each chunk to execute before the policy is asked again. */
  horizon: number;
  /** How much more older chunks count in the average. */
  ensembleWeight: number;
  guard: Guard;
  latencyMs: number;
  rateHz: number;
}

const EXECUTIONS = { own: "own", horizon: "receding_horizon", ensemble: "temporal_ensemble" } as const;

export const DEFAULT_SIDE: Side = {
  server: 0,
  mode: "own",
  horizon: 1,
  ensembleWeight: 0,
  guard: "off",
  latencyMs: 0,
  rateHz: 5,
};

/** Return the fields of a request for an episode that this side's settings make. */
export function requestFields(side: Side): Partial<EpisodeRequest> {
  return { ...executionFields(side), guard: side.guard, latency_ms: side.latencyMs, control: { rate_hz: side.rateHz } };
}

function executionFields({ mode, horizon, ensembleWeight }: Side): Partial<EpisodeRequest> {
  if (mode === "own") return {};
  return mode === "ensemble" ? { ensemble_weight: ensembleWeight } : { execution_horizon: horizon };
}

/** Return this side's settings as the run view has them. */
export function runOptions(side: Side): Partial<RunOptions> {
  const { horizon: executionHorizon, ensembleWeight, rateHz, latencyMs, guard } = side;
  const execution = EXECUTIONS[side.mode];
  return { execution, executionHorizon, ensembleWeight, rateHz, latencyMs, guard };
}

/** Say the settings in a few words, those that are not the default's only: `horizon 4, latency 200 ms`. */
export function describe(side: Side): string {
  const executions = {
    own: "own execution",
    horizon: `horizon ${side.horizon}`,
    ensemble: `ensemble ${side.ensembleWeight}`,
  };
  const parts = [executions[side.mode]];
  if (side.rateHz !== DEFAULT_SIDE.rateHz) parts.push(`${side.rateHz} Hz`);
  if (side.latencyMs !== DEFAULT_SIDE.latencyMs) parts.push(`latency ${side.latencyMs} ms`);
  if (side.guard !== DEFAULT_SIDE.guard) parts.push(`guard ${side.guard}`);
  return parts.join(", ");
}

/** Say which server and settings, as tables, files and votes name a side. */
export function fullName(side: Side, serverNames: string[]): string {
  return `${serverNames[side.server] ?? "?"}, ${describe(side)}`;
}
