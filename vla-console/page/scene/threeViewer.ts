// The 3-D view: one scene, drawn when something changed. Each part of it is a file beside this one.

import { Color, Fog, Scene, Vector3 } from "three";
import type { Pose, PoseFrame, Vec3 } from "../api/types";
import { place, poseOf } from "./bodyPose";
import { DrawLoop } from "./drawLoop";
import { Ghost } from "./ghost";
import { Lighting } from "./lighting";
import { SceneMaterials } from "./materials";
import { ObjectDrag } from "./objectDrag";
import { type OutlineKind, Outlines } from "./outlines";
import { PredictedPath } from "./predictedPath";
import { chooseQuality, type Quality, webglRendererName } from "./quality";
import { loadScene, type SceneModel } from "./sceneModel";
import { Stage } from "./stage";
import type { SceneInfo, Viewer, ViewerOptions } from "./viewer";
import { ViewpointControl } from "./viewpoint";

const BACKGROUNDS = { dark: "#1b222c", light: "#e3e8ee" } as const;
/** Software WebGL shares the processor with the policy: draw less often, and with fewer pixels while something moves. */
const LOW = { minIntervalMs: 90, settleMs: 600, movingResolution: 0.6 };

/** What belongs to one loaded scene and goes with it. */
interface LoadedScene {
  model: SceneModel;
  materials: SceneMaterials;
  lighting: Lighting;
  ghost: Ghost;
  outlines: Outlines;
}

export function createViewer(container: HTMLElement, options: ViewerOptions): Viewer {
  return new ThreeViewer(container, options);
}

class ThreeViewer implements Viewer {
  readonly #options: ViewerOptions;
  readonly #scene = new Scene();
  readonly #loop = new DrawLoop((isMoving) => this.#draw(isMoving));
  readonly #stage: Stage;
  readonly #viewpoint: ViewpointControl;
  readonly #drag: ObjectDrag;
  readonly #path = new PredictedPath();
  readonly #fog = new Fog("black");
  #loaded: LoadedScene | null = null;
  #marks: { body: string; kind: "contact" | "violation" }[] = [];
  #quality: Quality = "low";
  #loads = 0;

  constructor(container: HTMLElement, options: ViewerOptions) {
    this.#options = options;
    this.#stage = new Stage(container, () => this.#resized());
    this.#viewpoint = new ViewpointControl(this.#stage.element, () => this.#loop.request());
    this.#drag = new ObjectDrag({
      element: this.#stage.element,
      camera: this.#viewpoint.camera,
      setOrbit: (isEnabled) => {
        this.#viewpoint.controls.enabled = isEnabled;
      },
      focus: () => this.#stage.canvas?.focus({ preventScroll: true }),
      onSelect: (id) => {
        this.#outline();
        this.#options.onSelect(id === null ? null : this.#nameOf(id));
      },
      onMove: (id, pose, isFinal) => this.#moved(id, pose, isFinal),
      requestFrame: () => this.#changed(),
    });
    this.#scene.fog = this.#fog;
    this.#scene.add(this.#path.mesh, this.#drag.handle.group);
    this.setTheme(options.theme);
    this.setQuality(options.quality);
  }

  get quality(): Quality {
    return this.#quality;
  }

  get framesDrawn(): number {
    return this.#loop.framesDrawn;
  }

  async load(glb: ArrayBuffer): Promise<SceneInfo> {
    const load = ++this.#loads;
    const model = await loadScene(glb);
    if (load === this.#loads) this.#show(model);
    else model.dispose(); // A later scene came in the meantime.
    return model.info;
  }

  setPoses(poseBodies: number[], frame: PoseFrame): void {
    let hasChanged = false;
    poseBodies.forEach((id, index) => {
      const [body, pose] = [this.#loaded?.model.bodies.get(id), frame[index]];
      if (body === undefined || pose === undefined || id === this.#drag.held) return;
      hasChanged = place(body, pose) || hasChanged;
    });
    if (hasChanged) this.#changed();
  }

  pose(body: string): Pose | null {
    const object = this.#loaded?.model.bodies.get(this.#idOf(body) ?? -1);
    return object === undefined ? null : poseOf(object);
  }

  setPath(points: Vec3[] | null): void {
    this.#path.set(points, 0.003 * this.#size());
    this.#loop.request();
  }

  setGhost(poseBodies: number[], frame: PoseFrame | null): void {
    this.#loaded?.ghost.set(poseBodies, frame);
    this.#loop.request();
  }

  setMarks(marks: { body: string; kind: "contact" | "violation" }[]): void {
    this.#marks = marks;
    this.#outline();
  }

  setEditable(isEditable: boolean): void {
    this.#drag.isEditable = isEditable;
    this.#drag.select(this.#drag.selected);
  }

  select(body: string | null): void {
    this.#drag.select(body === null ? null : this.#idOf(body));
    this.#outline();
  }

  nudge(delta: Vec3): void {
    this.#drag.nudge(delta, true);
  }

  lookFrom(camera: string | null): void {
    this.#viewpoint.follow(camera === null ? null : (this.#loaded?.model.cameras.get(camera) ?? null));
    this.#loop.request();
  }

  setTheme(theme: "dark" | "light"): void {
    this.#scene.background = new Color(BACKGROUNDS[theme]);
    this.#fog.color.set(BACKGROUNDS[theme]);
    this.#loop.request();
  }

  setQuality(quality: ViewerOptions["quality"]): void {
    this.#quality = chooseQuality(quality, webglRendererName());
    this.#loop.minIntervalMs = this.#quality === "low" ? LOW.minIntervalMs : 0;
    this.#loop.settleMs = this.#quality === "low" ? LOW.settleMs : 0;
    this.#viewpoint.controls.enableDamping = this.#quality === "high";
    this.#stage.open(this.#quality);
    this.#applyQuality();
  }

  dispose(): void {
    this.#loads += 1;
    this.#loop.stop();
    this.#unload();
    this.#drag.dispose();
    this.#path.dispose();
    this.#viewpoint.dispose();
    this.#stage.dispose();
  }

  #show(model: SceneModel): void {
    this.#unload();
    const size = model.box.getSize(new Vector3()).length();
    const materials = new SceneMaterials([...model.meshes.values()].flat());
    const [lighting, ghost] = [new Lighting(model), new Ghost(model)];
    this.#loaded = { model, materials, lighting, ghost, outlines: new Outlines(model, 0.0032 * size) };
    this.#scene.add(model.world, lighting.group, ghost.group);
    this.#marks = [];
    this.#path.set(null, 0);
    this.#drag.show(model);
    this.#viewpoint.show(model);
    this.#applyQuality();
  }

  #unload(): void {
    if (this.#loaded === null) return;
    const { model, materials, lighting, ghost, outlines } = this.#loaded;
    this.#scene.remove(model.world, lighting.group, ghost.group);
    for (const part of [outlines, ghost, lighting, materials, model]) part.dispose();
    this.#loaded = null;
  }

  #applyQuality(): void {
    this.#loaded?.materials.apply(this.#quality, this.#stage.renderer?.capabilities.getMaxAnisotropy() ?? 1);
    this.#loaded?.lighting.apply(this.#quality);
    this.#changed();
  }

  #resized(): void {
    if (this.#stage.width === 0 || this.#stage.height === 0) return;
    this.#viewpoint.resize(this.#stage.width / this.#stage.height);
    this.#changed();
  }

  #draw(isMoving: boolean): boolean {
    const { renderer, width, height } = this.#stage;
    if (renderer === null || width === 0 || height === 0) return false;
    this.#scene.updateMatrixWorld();
    this.#viewpoint.update();
    this.#drag.update();
    this.#fadeGround();
    this.#stage.setResolution(isMoving ? LOW.movingResolution : 1);
    renderer.render(this.#scene, this.#viewpoint.camera);
    return true;
  }

  /** The ground fades into the background beyond the robot's place, from wherever one looks. */
  #fadeGround(): void {
    const { camera, controls } = this.#viewpoint;
    const distance = camera.position.distanceTo(controls.target);
    this.#fog.near = distance + 0.8 * this.#size();
    this.#fog.far = distance + 3 * this.#size();
  }

  /** Something in the scene moved: its shadows are to be drawn again too. */
  #changed(): void {
    if (this.#stage?.renderer) this.#stage.renderer.shadowMap.needsUpdate = true;
    this.#loop.request();
  }

  #outline(): void {
    const kinds = new Map<number, OutlineKind>();
    const mark = (kind: OutlineKind, ids: (number | null)[]) => {
      for (const id of ids) if (id !== null) kinds.set(id, kind);
    };
    const marked = (kind: OutlineKind) =>
      this.#marks.filter((entry) => entry.kind === kind).map(({ body }) => this.#idOf(body));
    mark("contact", marked("contact"));
    mark("selection", [this.#drag.selected]);
    mark("violation", marked("violation"));
    this.#loaded?.outlines.set(kinds);
    this.#loop.request();
  }

  #moved(id: number, [x, y, z, ...quaternion]: Pose, isFinal: boolean): void {
    this.#options.onMove(this.#nameOf(id), [x, y, z], quaternion, isFinal);
  }

  #idOf(name: string): number | null {
    return this.#loaded?.model.info.bodies.find((body) => body.name === name)?.id ?? null;
  }

  #nameOf(id: number): string {
    return this.#loaded?.model.info.bodies.find((body) => body.id === id)?.name ?? "";
  }

  #size(): number {
    return this.#loaded?.model.box.getSize(new Vector3()).length() ?? 1;
  }
}
