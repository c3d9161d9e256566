// One VLA server, as the page asks it.

import { readEvents, type ServerEvent } from "./events";
import { login } from "./login";
import type {
  EndEvent,
  EpisodeCreated,
  EpisodePatch,
  EpisodeRequest,
  EpisodeStatus,
  ErrorReply,
  InfoReply,
  LoadReply,
  ServerEntry,
  SessionStatus,
  TaskPreset,
  TaskTrial,
} from "./types";

/** The server's refusal, in its own words; `code` is "unreachable" where no answer came. */
export class ServerError extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly hint: string,
    readonly status = 0,
  ) {
    super(message);
  }

  override toString(): string {
    return this.hint ? `${this.message}; ${this.hint}` : this.message;
  }
}

/** A scene to send: a bundled one's or an own MJCF text, a zip with its files, or one that the server knows. */
export type SceneSource = { xml: string } | { zip: Blob; file?: string } | { sceneId: string };

export class Server {
  constructor(readonly entry: ServerEntry) {}

  get name(): string {
    return this.entry.name;
  }

  info = (signal?: AbortSignal) => this.#json<InfoReply>("info", { signal });
  load = (signal?: AbortSignal) => this.#json<LoadReply>("load", { signal });
  tasks = async (robot: string) =>
    (await this.#json<{ tasks: TaskPreset[] }>(`tasks?robot=${encodeURIComponent(robot)}`)).tasks;
  trial = (task: string, seed: number, robot: string) =>
    this.#json<TaskTrial>(`tasks/${encodeURIComponent(task)}/trials/${seed}?robot=${encodeURIComponent(robot)}`);
  scenes = async () => (await this.#json<{ robots: Record<string, string[]> }>("scenes")).robots;
  sceneXml = async (name: string) => (await this.#fetch(`scenes/${name}`)).text();
  sessions = async () => (await this.#json<{ sessions: SessionStatus[] }>("sessions")).sessions;
  episodes = async () => (await this.#json<{ episodes: EpisodeStatus[] }>("episodes")).episodes;

  /** Return the scene as binary glTF, and the id that names it from now on. */
  async geometry(
    source: SceneSource,
    fields: Partial<EpisodeRequest> = {},
  ): Promise<{ glb: ArrayBuffer; sceneId: string }> {
    const response = await this.#fetch("scenes/geometry", sceneBody(source, fields));
    return { glb: await response.arrayBuffer(), sceneId: response.headers.get("X-Scene-Id") ?? "" };
  }

  /** Run a whole episode and return what came of it. */
  execute = (request: EpisodeRequest) =>
    this.#json<{ recordings: EndEvent["recordings"] }>("execute", jsonBody("POST", request));
  begin = (request: EpisodeRequest) => this.#json<EpisodeCreated>("episodes", jsonBody("POST", request));
  episode = (id: string) => this.#json<EpisodeStatus>(`episodes/${id}`);
  change = (id: string, patch: EpisodePatch) => this.#json<EpisodeStatus>(`episodes/${id}`, jsonBody("PATCH", patch));
  forget = (id: string) => this.#json<EpisodeStatus>(`episodes/${id}`, { method: "DELETE" });

  /** Yield an episode's events from `after` (exclusive; all of them without it) until it ends or `signal` aborts. */
  episodeEvents = (id: string, after: number | null, signal: AbortSignal) =>
    this.#events(`episodes/${id}/events${after === null ? "" : `?after=${after}`}`, signal);
  sessionEvents = (id: string, signal: AbortSignal) =>
    this.#events(`sessions/${id.split("/").map(encodeURIComponent).join("/")}/events`, signal);

  async *#events(path: string, signal: AbortSignal): AsyncGenerator<ServerEvent> {
    const response = await this.#fetch(path, { signal, headers: { Accept: "text/event-stream" } });
    if (response.body !== null) yield* readEvents(response.body);
  }

  async #json<Reply>(path: string, init: RequestInit = {}): Promise<Reply> {
    return (await this.#fetch(path, init)).json();
  }

  async #fetch(path: string, init: RequestInit = {}): Promise<Response> {
    let response: Response;
    try {
      response = await fetch(this.entry.base + path, init);
    } catch (error) {
      if (init.signal?.aborted) throw error;
      throw new ServerError("unreachable", `${this.name} does not answer`, "is the server still running?");
    }
    if (response.ok) return response;
    if (response.status === 401) {
      await login(this.entry);
      return this.#fetch(path, init);
    }
    const reply: Partial<ErrorReply> = await response.json().catch(() => ({}));
    const { code = "error", message = `${response.status} ${response.statusText}`, hint = "" } = reply.error ?? {};
    throw new ServerError(code, message, hint, response.status);
  }
}

/** Return the servers that this page may show; the one that serves it comes first. */
export async function knownServers(): Promise<Server[]> {
  const response = await fetch("console/servers.json");
  const { servers }: { servers: ServerEntry[] } = await response.json();
  return servers.map((entry) => new Server(entry));
}

function jsonBody(method: string, body: unknown): RequestInit {
  return { method, body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
}

function sceneBody(source: SceneSource, fields: Partial<EpisodeRequest>): RequestInit {
  if ("sceneId" in source) return jsonBody("POST", { ...fields, scene_id: source.sceneId });
  if ("xml" in source) return jsonBody("POST", { ...fields, xml_string: source.xml });
  const form = new FormData();
  form.set("scene", source.zip, "scene.zip");
  form.set("request", JSON.stringify({ ...fields, scene_file: source.file }));
  return { method: "POST", body: form };
}
