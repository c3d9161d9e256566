// The scene that the view shows: a bundled one, a file of the visitor's, or one that an episode runs in.

import { signal } from "@preact/signals";
import { type SceneSource, type Server, ServerError } from "../api/server";
import type { SceneState } from "../api/types";
import { zipEntries } from "./zipEntries";

export interface ShownScene {
  /** "panda/tabletop", a file's name, or the scene's id. */
  name: string;
  source: SceneSource;
  sceneId: string;
  glb: ArrayBuffer;
}

export class SceneChoice {
  /** The bundled scenes, as "robot/scene". */
  readonly bundled = signal<string[]>([]);
  readonly shown = signal<ShownScene | null>(null);
  /** The visitor's own file, also while it cannot be shown. */
  readonly file = signal<File | null>(null);
  /** The models in the zip, where there are several, and which one is asked for. */
  readonly models = signal<string[]>([]);
  readonly model = signal("");
  readonly isLoading = signal(false);
  readonly error = signal<ServerError | null>(null);
  #latest = 0;

  constructor(readonly server: Server) {}

  async list(): Promise<void> {
    const robots = await this.server.scenes();
    this.bundled.value = Object.entries(robots).flatMap(([robot, scenes]) =>
      scenes.map((scene) => `${robot}/${scene}`),
    );
  }

  /** Show a bundled scene by its name, or one that the server knows by its id. */
  open = async (name: string, state?: SceneState): Promise<void> => {
    this.file.value = null;
    this.models.value = [];
    const source = async () => (name.includes("/") ? { xml: await this.server.sceneXml(name) } : { sceneId: name });
    await this.#show(name, source, state);
  };

  /** Show an MJCF text, such as a link carries. */
  openText = (name: string, xml: string, state?: SceneState): Promise<void> =>
    this.openFile(new File([xml], name), "", state);

  /** Show the scene as it is at its start, where a link showed it in another state. */
  async goHome(): Promise<void> {
    const shown = this.shown.value;
    if (shown !== null) await this.#show(shown.name, async () => shown.source);
  }

  /** Show an MJCF file, or a zip with one; `model` says which of several. */
  openFile = async (file: File, model = "", state?: SceneState): Promise<void> => {
    this.file.value = file;
    this.model.value = model;
    const isZip = /\.(zip|mjz)$/i.test(file.name);
    const names = isZip ? zipEntries(await file.arrayBuffer()).filter((name) => /\.xml$/i.test(name)) : [];
    this.models.value = names.length > 1 ? names : [];
    const source = async (): Promise<SceneSource> =>
      isZip ? { zip: file, ...(model && { file: model }) } : { xml: await file.text() };
    await this.#show(file.name, source, state);
  };

  /** Show the scene that has this id, by its name if it is a bundled one, unless it is shown already. */
  async openId(sceneId: string): Promise<void> {
    if (this.shown.value?.sceneId === sceneId) return;
    await this.list().catch(() => {});
    for (const name of this.bundled.value) {
      const source = { xml: await this.server.sceneXml(name) };
      const scene = await this.server.geometry(source);
      if (scene.sceneId === sceneId) {
        this.#latest++;
        this.shown.value = { name, source, ...scene };
        return;
      }
    }
    await this.open(sceneId);
  }

  /** Send the shown scene once more, to a server that has started again or dropped it; return its id. */
  async sendAgain(): Promise<string | null> {
    const shown = this.shown.value;
    if (shown === null) return null;
    const { sceneId } = await this.server.geometry(shown.source);
    if (this.shown.value === shown && sceneId !== shown.sceneId) this.shown.value = { ...shown, sceneId };
    return sceneId;
  }

  /** Show a scene; of several that are asked for at once, the last. */
  async #show(name: string, readSource: () => Promise<SceneSource>, state?: SceneState): Promise<void> {
    const call = ++this.#latest;
    this.isLoading.value = true;
    this.error.value = null;
    try {
      const source = await readSource();
      const { glb, sceneId } = await this.server.geometry(source, { state });
      if (call === this.#latest) this.shown.value = { name, source, sceneId, glb };
    } catch (error) {
      if (call === this.#latest) this.error.value = asServerError(error);
    } finally {
      if (call === this.#latest) this.isLoading.value = false;
    }
  }
}

function asServerError(error: unknown): ServerError {
  return error instanceof ServerError ? error : new ServerError("error", String(error), "");
}
