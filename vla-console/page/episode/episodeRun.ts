// One episode as the page follows it: begun or attached to, steered, and kept to be replayed.

import { batch, computed, signal } from "@preact/signals";
import { type Server, ServerError } from "../api/server";
import type {
  BodyPose,
  ChangeEvent,
  Criterion,
  EndEvent,
  EpisodeEvent,
  EpisodePatch,
  EpisodeRequest,
  EpisodeStatus,
  Poses,
  StartEvent,
  StepEvent,
  Success,
} from "../api/types";
import { KeptEvents } from "./keptEvents";
import { Playback } from "./playback";

/** What the state chip says; "starting" until the server has answered. */
export type RunState = "idle" | "starting" | "running" | "paused" | EndEvent["reason"] | "error";

const RECONNECT_MS = 500;

export class EpisodeRun {
  readonly status = signal<RunState>("idle");
  readonly id = signal<string | null>(null);
  readonly request = signal<EpisodeRequest | null>(null);
  readonly start = signal<StartEvent | null>(null);
  readonly steps = signal<readonly StepEvent[]>([]);
  readonly changes = signal<readonly ChangeEvent[]>([]);
  readonly end = signal<EndEvent | null>(null);
  /** The last refusal, in the server's words. */
  readonly error = signal<ServerError | null>(null);
  readonly instruction = signal<string | null>(null);
  /** The event stream is open; it is opened again after a cut. */
  readonly isConnected = signal(false);
  readonly posesReceived = signal(0);

  /** Number of executed actions. */
  readonly step = computed(() => this.steps.value.length);
  /** Simulated seconds since the start. */
  readonly time = computed(() => this.timeOf(this.steps.value.length - 1));
  /** The criteria's present values, in the request's order. */
  readonly criteria = computed<readonly Criterion[]>(
    () => this.steps.value.at(-1)?.criteria ?? this.start.value?.criteria ?? [],
  );
  readonly isOver = computed(() => this.end.value !== null || this.status.value === "error");
  readonly isActive = computed(() => ["starting", "running", "paused"].includes(this.status.value));

  readonly playback = new Playback();
  #server: Server | null = null;
  #lastEvent: number | null = null;
  #kept = new KeptEvents();
  /** It was told to end: nothing else is said to it. */
  #isStopping = false;
  #abort = new AbortController();

  /** Begin an episode and follow it; a refusal is in `error`. */
  async begin(server: Server, request: EpisodeRequest): Promise<void> {
    this.#reset(server);
    const { signal } = this.#abort;
    this.request.value = request;
    this.instruction.value = request.instruction;
    this.status.value = "starting";
    try {
      const created = await server.begin(request);
      if (signal.aborted) {
        void server.forget(created.episode_id).catch(() => {});
        return;
      }
      this.id.value = created.episode_id;
      this.status.value = created.status === "paused" ? "paused" : "running";
      this.#begun(created.start);
    } catch (error) {
      if (!signal.aborted) this.#fail(error);
      return;
    }
    void this.#follow(server, this.id.value);
  }

  /** Follow an episode that somebody has begun, from its first event; `request` is what it was begun with, if known. */
  async attach(server: Server, id: string, request: EpisodeRequest | null = null): Promise<void> {
    this.#reset(server);
    this.request.value = request;
    const { signal } = this.#abort;
    this.id.value = id;
    this.status.value = "starting";
    try {
      this.#take(await server.episode(id));
    } catch (error) {
      if (!signal.aborted) this.#fail(error);
      return;
    }
    void this.#follow(server, id);
  }

  pause = () => this.change({ status: "paused" });
  resume = () => this.change({ status: "running" });
  /** Execute one more action of a paused episode. */
  stepOnce = () => this.change({ steps: 1 });
  /** End it; one that the server has not begun yet is taken back. */
  stop = async (): Promise<void> => {
    if (this.status.value === "starting" && this.id.value === null) this.clear();
    else await this.change({ status: "stopped" });
  };
  /** Say something else; without `success` the criteria stay. */
  setInstruction = (instruction: string, success?: Success[]) => this.change({ instruction, success });
  moveBodies = (bodies: Record<string, BodyPose>) => this.change({ bodies });

  /** Change the episode before its next step; a refusal is in `error`. */
  async change(patch: EpisodePatch): Promise<void> {
    const id = this.id.value;
    if (this.#server === null || id === null || this.isOver.value || this.#isStopping) return;
    this.#isStopping = patch.status === "stopped";
    try {
      const status = await this.#server.change(id, patch);
      // While the events come they say it, and in order: this answer may be older than the last of them.
      if (id === this.id.value && !this.isOver.value && !this.isConnected.value) this.#take(status);
      this.error.value = null;
    } catch (error) {
      if (error instanceof ServerError && error.code !== "episode_ended") this.error.value = error;
      if (id === this.id.value) this.#isStopping = false;
    }
  }

  /** Bytes of images and predicted poses that the page keeps of this episode. */
  get keptBytes(): number {
    return this.#kept.bytes;
  }

  /** Simulated seconds since the start after the action of this index; 0 before the first. */
  timeOf(index: number): number {
    const time = this.steps.value[index]?.state.time;
    return time === undefined ? 0 : time - (this.start.value?.state.time ?? 0);
  }

  /** Stop following; the episode itself goes on, and ends by itself where nobody reads it. */
  dispose(): void {
    this.#abort.abort();
  }

  /** Forget the episode on the page. */
  clear(): void {
    this.#reset(null);
    this.status.value = "idle";
    this.playback.isOpen.value = false;
  }

  #reset(server: Server | null): void {
    this.#abort.abort();
    this.#abort = new AbortController();
    this.#server = server;
    this.isConnected.value = this.#isStopping = false;
    this.#lastEvent = null;
    this.#kept = new KeptEvents();
    this.id.value = this.request.value = this.start.value = this.end.value = this.error.value = null;
    this.instruction.value = null;
    this.steps.value = [];
    this.changes.value = [];
    this.posesReceived.value = 0;
    this.playback.reset();
    this.playback.isOpen.value = true;
  }

  /** Read the event stream until the episode is over, and open it again after a cut. */
  async #follow(server: Server, id: string): Promise<void> {
    const { signal } = this.#abort;
    while (!signal.aborted && !this.isOver.value) {
      try {
        for await (const event of server.episodeEvents(id, this.#lastEvent, signal)) {
          if (signal.aborted) return;
          batch(() => this.#receive(event as EpisodeEvent));
        }
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof ServerError && error.status === 404) return this.#fail(forgotten(error));
      }
      this.isConnected.value = false;
      if (!this.isOver.value) await new Promise((resolve) => setTimeout(resolve, RECONNECT_MS));
    }
  }

  #receive(event: EpisodeEvent): void {
    this.isConnected.value = true;
    if (event.id >= 0) this.#lastEvent = event.id;
    if (event.name === "start") this.#begun(event.data);
    else if (event.name === "step") this.#stepped(event.data);
    else if (event.name === "change") this.#changed(event.data);
    else if (event.name === "end") this.#ended(event.data);
    else if (event.name === "error") {
      const { code, message, hint } = event.data.error;
      this.#fail(new ServerError(code, message, hint));
    }
  }

  #begun(start: StartEvent): void {
    if (this.start.value !== null) return;
    this.start.value = start;
    this.#addPoses(start.poses, start.state.time);
  }

  #stepped(step: StepEvent): void {
    const steps = [...this.steps.value, step];
    this.#kept.bound(steps);
    this.steps.value = steps;
    this.#addPoses(step.poses, step.state.time);
  }

  #changed(change: ChangeEvent): void {
    this.changes.value = [...this.changes.value, change];
    if (change.instruction !== undefined && change.instruction !== null) this.instruction.value = change.instruction;
    if (change.status !== "ended" && !this.isOver.value) this.status.value = change.status;
    if (change.poses) this.#addPoses(change.poses, change.poses.times[0] ?? 0);
  }

  #ended(end: EndEvent): void {
    this.end.value = end;
    this.status.value = end.reason;
    this.playback.isOpen.value = false;
  }

  #fail(error: unknown): void {
    this.error.value = error instanceof ServerError ? error : new ServerError("error", String(error), "");
    this.status.value = "error";
    this.playback.isOpen.value = false;
  }

  /** Take what the server says of the episode, until its events say more. */
  #take(status: EpisodeStatus): void {
    if (status.status !== "ended") this.status.value = status.status;
    if (status.instruction !== null) this.instruction.value = status.instruction;
  }

  #addPoses(poses: Poses | null | undefined, time: number): void {
    const start = this.start.value?.state.time ?? 0;
    if (!poses?.frames.length) this.playback.add(time - start, null);
    poses?.frames.forEach((frame, index) => {
      this.playback.add((poses.times[index] ?? time) - start, frame);
    });
    this.posesReceived.value += poses?.frames.length ?? 0;
  }
}

function forgotten(error: ServerError): ServerError {
  return new ServerError(
    error.code,
    "the server no longer has this episode",
    "what came of it can still be replayed here; press Run to begin another",
    404,
  );
}
