// What is compared: two sides, a scene, an instruction and a seed. It outlives the view, so that trials go on meanwhile.

import { computed, effect, signal } from "@preact/signals";
import type { Server } from "../api/server";
import type { EpisodeRequest, TaskPreset } from "../api/types";
import { BlindTrial } from "./blindTrial";
import { PairRun, type SideRequest } from "./pairRun";
import { DEFAULT_SIDE, describe, fullName, requestFields, SIDES, type Side, type SideName } from "./side";
import { TrialRunner } from "./trialRunner";

export type Tab = "side" | "trials" | "blind";

export class Comparison {
  readonly tab = signal<Tab>("side");
  readonly sides = signal<Record<SideName, Side>>({ A: DEFAULT_SIDE, B: DEFAULT_SIDE });
  readonly robots = signal<Record<string, string[]>>({});
  readonly robot = signal("panda");
  readonly tasks = signal<TaskPreset[]>([]);
  /** The chosen task of the suite; null for an instruction of one's own, without a criterion. */
  readonly task = signal<TaskPreset | null>(null);
  readonly instruction = signal("");
  readonly seed = signal(0);
  /** Why something could not be begun, in words. */
  readonly error = signal<string | null>(null);

  readonly pair = new PairRun();
  readonly blind = new BlindTrial();
  readonly trials: TrialRunner;

  readonly sideNames = computed<Record<SideName, string>>(() => {
    const servers = this.servers.map((server) => server.name);
    return { A: fullName(this.sides.value.A, servers), B: fullName(this.sides.value.B, servers) };
  });
  /** Both sides' settings in a few words. */
  readonly settingsText = computed(() => `${describe(this.sides.value.A)}; ${describe(this.sides.value.B)}`);
  readonly areAlike = computed(() => this.sideNames.value.A === this.sideNames.value.B);

  constructor(readonly servers: Server[]) {
    this.trials = new TrialRunner(servers);
    const other = servers.length > 1 ? { server: 1 } : { mode: "horizon" as const, horizon: 4 };
    this.sides.value = { A: DEFAULT_SIDE, B: { ...DEFAULT_SIDE, ...other } };
    effect(() => {
      this.#tasksLoaded = this.#loadTasks(this.robot.value);
    });
  }

  /** The robot's tasks are there, or cannot be had: what is begun before waits for its instruction and criteria. */
  #tasksLoaded: Promise<void> = Promise.resolve();

  change(side: SideName, fields: Partial<Side>): void {
    this.sides.value = { ...this.sides.value, [side]: { ...this.sides.value[side], ...fields } };
  }

  choose(task: TaskPreset | null): void {
    this.task.value = task;
    if (task !== null) this.instruction.value = task.instruction;
  }

  server(side: SideName): Server {
    return this.servers[this.sides.value[side].server] as Server;
  }

  /** The scene that both sides run in: robot and name of a bundled one. */
  readonly scene = computed(
    () => this.task.value?.scene ?? `${this.robot.value}/${this.robots.value[this.robot.value]?.[0] ?? "tabletop"}`,
  );

  /** Run both sides at the simulation's own clock. */
  runPair = () => this.#begin(async () => this.pair.begin(await this.#requests("real_time")));

  /** Run both sides behind a curtain: as fast as they can, and shown when both are over. */
  runBlind = () =>
    this.#begin(async () =>
      this.blind.begin(await this.#requests("fast"), {
        names: this.sideNames.peek(),
        task: this.task.peek()?.name ?? null,
        instruction: this.instruction.peek(),
        scene: this.scene.peek(),
        seed: this.seed.peek(),
      }),
    );

  runTrials(task: TaskPreset, num: number, concurrency: number): void {
    this.error.value = null;
    void this.trials.run({ task, num, concurrency, firstSeed: this.seed.peek(), sides: this.sides.peek() });
  }

  readonly fail = (error: unknown): void => {
    this.error.value = String(error);
  };

  async #begin(begin: () => Promise<void>): Promise<void> {
    this.error.value = null;
    await this.#tasksLoaded;
    try {
      await begin();
    } catch (error) {
      this.fail(error);
    }
  }

  async #requests(pace: EpisodeRequest["pace"]): Promise<Record<SideName, SideRequest>> {
    const [A, B] = await Promise.all(SIDES.map((side) => this.#request(side, pace)));
    return { A: A as SideRequest, B: B as SideRequest };
  }

  /** Return a side's request: the suite's placement for this seed where a task is chosen, else the scene as it is. */
  async #request(side: SideName, pace: EpisodeRequest["pace"]): Promise<SideRequest> {
    const server = this.server(side);
    const task = this.task.peek();
    const [xml_string, trial] = await Promise.all([
      server.sceneXml(this.scene.peek()),
      task && server.trial(task.name, this.seed.peek(), task.robot),
    ]);
    const placement = trial ? { state: trial.state, success: trial.success, max_steps: trial.max_steps } : {};
    const request: EpisodeRequest = {
      instruction: this.instruction.peek(),
      xml_string,
      robot: this.robot.peek(),
      seed: this.seed.peek(),
      ...placement,
      ...requestFields(this.sides.peek()[side]),
      poses: true,
      frames: "jpeg",
      pace,
    };
    return { server, request };
  }

  async #loadTasks(robot: string): Promise<void> {
    const server = this.servers[0] as Server;
    try {
      this.robots.value = await server.scenes();
      this.tasks.value = await server.tasks(robot);
      this.choose(this.tasks.value[0] ?? null);
    } catch (error) {
      this.fail(error);
    }
  }
}
