// Everything that the run view shows and does on one server: the scene, what to say, and the episode.

import { batch, computed, effect, signal, untracked } from "@preact/signals";
import { type Server, ServerError } from "../api/server";
import type { BodyPose, EpisodeRequest, SceneState, Success, TaskPreset } from "../api/types";
import { Connection } from "./connection";
import { presetOf } from "./criteria";
import { datasetRequest } from "./dataset";
import { EpisodeRun } from "./episodeRun";
import { Glance } from "./glance";
import { InstructionHistory } from "./history";
import { pack, readFragment, runFragment, type SharedRun, unpack } from "./link";
import { DEFAULT_OPTIONS, type Episode, episodeRequest, type RunOptions } from "./options";
import { keepEpisode, keptEpisode, type TabEpisode } from "./reload";
import { SceneChoice } from "./shownScene";
import { until } from "./until";

const FIRST_SCENE = "panda/tabletop";

export class RunDesk {
  readonly connection: Connection;
  readonly scene: SceneChoice;
  readonly run = new EpisodeRun();
  readonly history = new InstructionHistory(localStorage);
  readonly presets = signal<TaskPreset[]>([]);
  readonly instruction = signal("");
  /** An empty box is filled with the first preset, unless the visitor is about to write there. */
  offersPreset = true;
  readonly options = signal<RunOptions>(DEFAULT_OPTIONS);
  /** Which arm of the scene is driven, or how it is called; "" for the only one. */
  readonly robot = signal("");
  /** Where the visitor put free bodies; the next episode starts with them there. */
  readonly moved = signal<Record<string, BodyPose>>({});
  /** Counts how often the scene was brought back to its start. */
  readonly resets = signal(0);
  /** What a link asked for; its criteria hold for its instruction, its state for its scene. */
  readonly shared = signal<SharedRun | null>(null);
  /** What an episode cannot begin without, as "it begins once …" says it; "" where it can. */
  readonly hindrance = computed<string>(() => {
    if (this.connection.isLost.value) return "the server is back";
    if (this.scene.shown.value === null) return "there is a scene";
    return this.connection.isReady.value ? "" : "the model is loaded";
  });
  /** The visitor said what to do before an episode could begin: it begins by itself. */
  readonly isWaiting = signal(false);
  /** The criteria of the text in the box: the preset's, the link's, or none. */
  readonly success = computed<Success[]>(() => {
    const shared = this.shared.value;
    if (shared !== null && shared.instruction === this.instruction.value.trim()) return shared.success;
    return presetOf(this.instruction.value, this.presets.value)?.success ?? [];
  });
  /** The start of the next episode, before it is begun: what the policy's cameras see now. */
  readonly glance: Glance;
  /** The criteria of the episode that is shown: those of what it was last told. */
  readonly judgedBy = computed<Success[]>(() => {
    const request = this.run.request.value;
    const text = this.run.instruction.value ?? "";
    const change = request?.changes?.findLast((one) => one.instruction === text && one.success);
    if (change?.success) return change.success;
    if (request?.instruction === text) return request.success ?? [];
    return presetOf(text, this.presets.value)?.success ?? [];
  });

  /** The presets of the shown scene's robot are there, or cannot be had. */
  #presetsLoaded: Promise<void> = Promise.resolve();
  /** A link whose scene the server does not have: it goes on once its file is opened. */
  #awaited: SharedRun | null = null;

  constructor(readonly server: Server) {
    this.connection = new Connection(server);
    this.scene = new SceneChoice(server);
    this.glance = new Glance(server);
  }

  /** Do what the page's link asks for, and stay connected. */
  start(): () => void {
    const stopPolling = this.connection.start();
    const stopPresets = effect(() => {
      const robot = robotOf(this.scene.shown.value?.name ?? "");
      if (robot !== null) this.#presetsLoaded = this.#loadPresets(robot);
    });
    const stopGlances = effect(() => {
      const isIdle = this.run.status.value === "idle" && this.connection.isReady.value;
      this.moved.value; // What the cameras see changes with it.
      this.success.value;
      if (isIdle && this.scene.shown.value !== null) this.glance.soon(() => this.#nextEpisode());
    });
    const stopReturns = effect(() => {
      if (this.connection.returns.value > 0) untracked(() => void this.#comeBack());
    });
    const { base } = this.server.entry;
    void this.#openFirst(keptEpisode(sessionStorage, base));
    const stopKeeping = effect(() => {
      const { id, request } = this.run;
      if (id.value === null || request.value === null) return;
      keepEpisode(sessionStorage, { base, id: id.value, request: request.value, options: this.options.peek() });
    });
    return () => {
      stopPolling();
      stopPresets();
      stopGlances();
      stopReturns();
      stopKeeping();
      this.run.dispose();
    };
  }

  setOptions = (options: Partial<RunOptions>): void => {
    this.options.value = { ...this.options.value, ...options };
  };

  /** Run what the box says; while an episode runs, say it to that one. */
  submit = async (): Promise<void> => {
    const text = this.instruction.value.trim();
    if (!text || this.isWaiting.value) return;
    this.history.add(text);
    if (!this.run.isActive.value && !(await this.#canBegin())) return;
    await this.#presetsLoaded; // Whose instruction says it, its criteria hold.
    if (!this.run.isActive.value) return this.begin();
    if (text === this.run.instruction.value) return this.run.resume();
    await this.run.setInstruction(text, this.success.value);
  };

  /** Begin an episode with what the box, the options and the moved bodies say. */
  begin = async (): Promise<void> => {
    const episode = this.#nextEpisode();
    if (episode === null || this.run.isActive.value) return;
    this.glance.cancel();
    await this.run.begin(this.server, episodeRequest(episode));
    if (this.run.error.value?.code !== "unknown_scene_id") return;
    const sceneId = await this.scene.sendAgain().catch(() => null);
    if (sceneId !== null) await this.run.begin(this.server, episodeRequest({ ...episode, sceneId }));
  };

  /** End the episode, or give up the one that waits to begin. */
  stop = async (): Promise<void> => {
    this.isWaiting.value = false;
    await this.run.stop();
  };

  /** Move a free body: of the episode that is on, else for the next one. */
  moveBody = async (body: string, pose: BodyPose): Promise<void> => {
    if (!this.run.isActive.value) {
      this.moved.value = { ...this.moved.value, [body]: pose };
      return;
    }
    await this.run.moveBodies({ [body]: pose });
    this.run.playback.seek(this.run.playback.duration.value);
  };

  /** End the episode and bring the scene back to its start. */
  reset = (): void => {
    void this.stop();
    this.#awaited = null;
    if (this.shared.value?.state !== undefined) void this.scene.goHome();
    batch(() => {
      this.run.clear();
      keepEpisode(sessionStorage, null);
      this.moved.value = {};
      this.resets.value += 1;
      if (this.shared.value !== null)
        this.shared.value = { ...this.shared.value, state: undefined, changes: undefined };
    });
  };

  openScene = async (name: string): Promise<void> => {
    this.reset();
    this.robot.value = "";
    this.glance.clear();
    await this.scene.open(name);
  };

  openFile = async (file: File, model?: string): Promise<void> => {
    const awaited = this.#awaited;
    this.reset();
    this.glance.clear();
    await this.scene.openFile(file, model);
    if (awaited === null || this.scene.shown.value?.sceneId !== awaited.scene) return;
    this.shared.value = awaited;
    if (await this.#canBegin()) await this.begin();
  };

  /** Run the shown episode once more to record it; return a zip with its LeRobot dataset, as base64. */
  async dataset(): Promise<string | null> {
    const { request, id, start, step } = this.run;
    if (request.value === null || start.value === null || id.value === null) return null;
    try {
      const { changes = request.value.changes } = await this.server.episode(id.value);
      const again = datasetRequest(request.value, start.value.seed, step.value, changes);
      return again && ((await this.server.execute(again)).recordings.lerobot ?? null);
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      this.run.error.value = error;
      return null;
    }
  }

  /** Return the fragment that begins the shown episode elsewhere, with the changes made so far. */
  async link(): Promise<string> {
    const { request, id, start, isOver } = this.run;
    if (id.value !== null && request.value === null) return `#episode=${id.value}`;
    const status = id.value === null ? null : await this.server.episode(id.value).catch(() => null);
    const shown = this.scene.shown.value;
    const isBundled = shown?.name.includes("/") && shown.sceneId === (start.value?.scene_id ?? shown.sceneId);
    const own = !isBundled && shown !== null && "xml" in shown.source ? await pack(shown.source.xml) : null;
    return runFragment({
      server: this.server.entry.base,
      file: isBundled ? undefined : shown?.name,
      mjcf: own ?? undefined,
      scene: (isBundled ? shown?.name : (start.value?.scene_id ?? shown?.sceneId)) ?? FIRST_SCENE,
      robot: request.value?.robot,
      instruction: request.value?.instruction ?? this.instruction.value.trim(),
      success: request.value?.success ?? this.success.value,
      seed: start.value?.seed ?? this.options.value.seed,
      options: { ...this.options.value, seed: DEFAULT_OPTIONS.seed },
      state: request.value?.state ?? this.#startState(),
      changes: isOver.value || status !== null ? (status?.changes ?? request.value?.changes) : undefined,
    });
  }

  #nextEpisode(): Episode | null {
    const shown = this.scene.shown.value;
    if (shown === null) return null;
    const { shared } = this;
    const isShared = shared.value?.scene === shown.name || shared.value?.scene === shown.sceneId;
    return {
      sceneId: shown.sceneId,
      instruction: this.instruction.value.trim(),
      success: this.success.value,
      options: this.options.value,
      state: this.#startState(isShared ? shared.value?.state : undefined),
      robot: this.robot.value || undefined,
      changes: isShared ? shared.value?.changes : undefined,
    };
  }

  #startState(shared?: SceneState): SceneState {
    const moved = this.moved.value;
    if (!Object.keys(moved).length) return shared ?? {};
    return { ...shared, bodies: { ...shared?.bodies, ...moved } };
  }

  /** Do what a link's fragment asks for; without one show the first scene. */
  async open(fragment: string): Promise<void> {
    const link = readFragment(fragment);
    void this.scene.list().catch(() => {});
    if (link === null) {
      if (this.scene.shown.value === null) await this.scene.open(FIRST_SCENE);
      return;
    }
    if ("episode" in link) return this.#attach(link.episode);
    this.reset();
    this.shared.value = link.run;
    this.robot.value = link.run.robot ?? "";
    this.instruction.value = link.run.instruction;
    this.options.value = { ...DEFAULT_OPTIONS, ...link.run.options, seed: link.run.seed };
    await this.#openSceneOf(link.run);
    if (this.shared.value === link.run && (await this.#canBegin())) await this.begin();
  }

  async #openSceneOf(run: SharedRun): Promise<void> {
    const { scene, file = "", mjcf, state } = run;
    const xml = mjcf === undefined ? null : await unpack(mjcf).catch(() => null);
    if (xml !== null) return this.scene.openText(file, xml, state);
    await this.scene.open(scene, state);
    if (this.scene.error.value?.code !== "unknown_scene_id") return;
    this.#awaited = run;
    const message = `this server does not have the link's scene${file && `, ${file}`}`;
    const hint = "open the scene's file here, and the episode begins as the link says";
    this.scene.error.value = new ServerError("unknown_scene_id", message, hint, 404);
  }

  /** Wait until an episode can begin; false where the visitor gave up meanwhile. */
  async #canBegin(): Promise<boolean> {
    if (this.hindrance.value === "") return true;
    this.isWaiting.value = true;
    await until(() => this.hindrance.value === "" || !this.isWaiting.value);
    const canBegin = this.isWaiting.value;
    this.isWaiting.value = false;
    return canBegin;
  }

  /** Come back to the episode that this tab had before it was reloaded, or do what the link asks for. */
  async #openFirst(kept: TabEpisode | null): Promise<void> {
    if (kept === null || location.hash !== "") return this.open(location.hash);
    const episodes = await this.server.episodes().catch(() => []);
    if (!episodes.some(({ episode_id }) => episode_id === kept.id)) return this.open("");
    this.options.value = kept.options;
    await this.#attach(kept.id, kept.request);
  }

  async #attach(id: string, request: EpisodeRequest | null = null): Promise<void> {
    await this.run.attach(this.server, id, request);
    const status = await this.server.episode(id).catch(() => null);
    if (status === null) return this.open("");
    this.instruction.value = status.instruction ?? "";
    await this.scene.openId(status.scene_id);
    if (this.scene.error.value !== null) await this.open("");
  }

  async #loadPresets(robot: string): Promise<void> {
    try {
      this.presets.value = await this.server.tasks(robot);
      if (this.offersPreset && !this.instruction.value)
        this.instruction.value = this.presets.value[0]?.instruction ?? "";
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
    }
  }

  /** The server is there again: it may have forgotten the scene. */
  async #comeBack(): Promise<void> {
    void this.scene.list().catch(() => {});
    if (this.scene.shown.value === null) return this.open(location.hash);
    await this.scene.sendAgain().catch(() => {});
  }
}

/** Return the robot of a bundled scene's name; null for a scene of the visitor's own. */
export function robotOf(scene: string): string | null {
  return scene.includes("/") ? (scene.split("/")[0] ?? null) : null;
}
