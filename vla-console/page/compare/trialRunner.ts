// Runs trials on the servers: at most a few episodes at once on each, one side after the other in turn.

import { computed, signal } from "@preact/signals";
import { type Server, ServerError } from "../api/server";
import type { EndEvent, EpisodeRequest, StepEvent, TaskPreset, TaskTrial } from "../api/types";
import { runFragment } from "../episode/link";
import { fullName, requestFields, runOptions, SIDES, type Side, type SideName } from "./side";
import { median } from "./statistics";
import { emptyTrials, type Outcome, type Trial } from "./trials";

export interface TrialPlan {
  task: TaskPreset;
  num: number;
  firstSeed: number;
  sides: Record<SideName, Side>;
  /** Episodes at once on one server. */
  concurrency: number;
}

/** Trials of one plan; the table follows `trials`. */
export class TrialRunner {
  readonly trials = signal<Trial[]>([]);
  readonly isRunning = signal(false);
  readonly plan = signal<TrialPlan | null>(null);
  /** The sides as they are in the plan, whatever was changed since. */
  readonly names = computed<Record<SideName, string>>(() => {
    const servers = this.servers.map((server) => server.name);
    const name = (side: SideName) => (this.plan.value ? fullName(this.plan.value.sides[side], servers) : "");
    return { A: name("A"), B: name("B") };
  });
  #abort = new AbortController();

  constructor(readonly servers: Server[]) {}

  /** Run the plan's trials until all have ended or `stop` is called. */
  async run(plan: TrialPlan): Promise<void> {
    this.stop();
    const abort = new AbortController();
    this.#abort = abort;
    this.plan.value = plan;
    this.trials.value = emptyTrials(plan.num, plan.firstSeed);
    this.isRunning.value = true;
    try {
      await Promise.all(this.#workers(plan, abort.signal));
    } finally {
      if (this.#abort === abort) this.isRunning.value = false;
    }
  }

  /** Stop the episodes that run, and begin no more; what has ended stays in the table. */
  stop(): void {
    this.#abort.abort();
    this.isRunning.value = false;
    this.trials.value = this.trials.value.map(withoutRunning);
  }

  #workers(plan: TrialPlan, signal: AbortSignal): Promise<void>[] {
    const jobs = this.trials.value.flatMap(({ seed }) => SIDES.map((side) => ({ seed, side })));
    return [...new Set(SIDES.map((side) => plan.sides[side].server))].flatMap((server) => {
      const queue = jobs.filter((job) => plan.sides[job.side].server === server);
      return Array.from({ length: plan.concurrency }, () => this.#work(plan, queue, signal));
    });
  }

  async #work(plan: TrialPlan, queue: { seed: number; side: SideName }[], signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const job = queue.shift();
      if (job === undefined) return;
      const record = (outcome: Outcome) => {
        if (!signal.aborted) this.#record(job.seed, job.side, outcome);
      };
      record({ status: "running", reason: "", steps: 0, predictMs: null, link: null });
      record(await this.#outcome(plan, job.seed, plan.sides[job.side], signal));
    }
  }

  async #outcome({ task }: TrialPlan, seed: number, side: Side, signal: AbortSignal): Promise<Outcome> {
    let link: string | null = null;
    try {
      const server = this.servers[side.server] as Server;
      const trial = await server.trial(task.name, seed, task.robot);
      link = trialLink(server, trial, task.robot, side);
      const request = await trialRequest(server, trial, task.robot, side);
      return { ...(await runEpisode(server, request, signal)), link };
    } catch (error) {
      return { status: "error", reason: String(error), steps: 0, predictMs: null, link };
    }
  }

  #record(seed: number, side: SideName, outcome: Outcome): void {
    this.trials.value = this.trials.value.map((trial) =>
      trial.seed === seed ? { ...trial, outcomes: { ...trial.outcomes, [side]: outcome } } : trial,
    );
  }
}

/** Return the request for one placement, as fast as the server can and without images. */
export async function trialRequest(
  server: Server,
  trial: TaskTrial,
  robot: string,
  side: Side,
): Promise<EpisodeRequest> {
  return {
    instruction: trial.instruction,
    xml_string: await server.sceneXml(trial.scene),
    robot,
    state: trial.state,
    success: trial.success,
    seed: trial.seed,
    max_steps: trial.max_steps,
    ...requestFields(side),
    frames: "none",
    pace: "fast",
  };
}

/** Return the link that opens a trial in the run view. */
function trialLink(server: Server, trial: TaskTrial, robot: string, side: Side): string {
  const { scene, instruction, success, seed, state } = trial;
  const options = { ...runOptions(side), maxSteps: trial.max_steps };
  return runFragment({ server: server.entry.base, scene, robot, instruction, success, seed, state, options });
}

async function runEpisode(server: Server, request: EpisodeRequest, signal: AbortSignal): Promise<Ended> {
  const { episode_id } = await begin(server, request, signal);
  try {
    return await readOutcome(server, episode_id, signal);
  } finally {
    await server.forget(episode_id).catch(() => {});
  }
}

/** Begin an episode; wait while the server has no free place for it. */
async function begin(server: Server, request: EpisodeRequest, signal: AbortSignal) {
  while (true) {
    try {
      return await server.begin(request);
    } catch (error) {
      if (!(error instanceof ServerError) || error.status !== 503 || signal.aborted) throw error;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

async function readOutcome(server: Server, episode: string, signal: AbortSignal): Promise<Ended> {
  const predictMs: number[] = [];
  let steps = 0;
  for await (const event of server.episodeEvents(episode, null, signal)) {
    if (event.name === "step") {
      const step = event.data as StepEvent;
      steps = step.index + 1;
      if (step.timing_ms.predict > 0) predictMs.push(step.timing_ms.predict);
    } else if (event.name === "end") {
      const end = event.data as EndEvent;
      const status = end.success ? "success" : "failure";
      return { status, reason: end.reason, steps: end.num_steps, predictMs: median(predictMs) };
    } else if (event.name === "error") {
      const { error } = event.data as { error: { message: string; hint: string } };
      throw new ServerError("error", error.message, error.hint);
    }
  }
  throw new ServerError("unreachable", `${server.name} broke off after ${steps} steps`, "is the server still running?");
}

type Ended = Omit<Outcome, "link">;

const RETRY_MS = 1000;

function withoutRunning(trial: Trial): Trial {
  const ended = (outcome: Outcome | null) => (outcome?.status === "running" ? null : outcome);
  return { ...trial, outcomes: { A: ended(trial.outcomes.A), B: ended(trial.outcomes.B) } };
}
