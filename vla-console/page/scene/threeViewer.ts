// The 3-D view: one scene, drawn when something changed. Each part of it is a file beside this one.

import { Color, Fog, Scene } from "three";
import type { Pose, PoseFrame, Vec3 } from "../api/types";
import { place, poseOf } from "./bodyPose";
import { DrawLoop } from "./drawLoop";
import { LoadedScene } from "./loadedScene";
import { ObjectDrag } from "./objectDrag";
import { PredictedPath } from "./predictedPath";
import { chooseQuality, type Quality, webglRendererName } from "./quality";
import { loadScene, type SceneModel } from "./sceneModel";
import { Stage } from "./stage";
import type { Mark, SceneInfo, Viewer, ViewerOptions } from "./viewer";
import { ViewpointControl } from "./viewpoint";

const BACKGROUNDS = { dark: "#1b222c", light: "#e3e8ee" } as const;
/** Software WebGL shares the processor with the policy: draw less often, and with fewer pixels while something moves. */
const LOW = { minIntervalMs: 90, settleMs: 600, movingResolution: 0.6 };

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
  readonly #background = new Color();
  readonly #rendererName = webglRendererName();
  #loaded: LoadedScene | null = null;
  #marks: Mark[] = [];
  #quality: Quality | null = null;
  #loads = 0;

  constructor(container: HTMLElement, options: ViewerOptions) {
    this.#options = options;
    this.#stage = new Stage(container, () => this.#resized());
    this.#viewpoint = new ViewpointControl(this.#stage.element, () => this.#showSky());
    this.#drag = new ObjectDrag({
      element: this.#stage.element,
      camera: this.#viewpoint.camera,
      setOrbit: (isEnabled) => {
        this.#viewpoint.controls.enabled = isEnabled;
      },
      onSelect: (id) => {
        this.#outline();
        this.#options.onSelect(id === null ? null : this.#nameOf(id));
      },
      onMove: (id, pose, isFinal) => this.#moved(id, pose, isFinal),
      requestFrame: () => this.#changed(),
    });
    this.#scene.backgroundRotation.x = Math.PI / 2; // An image's up is y, this scene's is z.
    this.#scene.add(this.#path.group, this.#drag.handle.group);
    this.setTheme(options.theme);
    this.setQuality(options.quality);
  }

  get quality(): Quality {
    return this.#quality ?? "low";
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
    const object = this.#loaded?.objectOf(body);
    return object === undefined ? null : poseOf(object);
  }

  onPage(body: string): { x: number; y: number } | null {
    const object = this.#loaded?.objectOf(body);
    return object === undefined ? null : this.#drag.picker.onPage(object.position, this.#viewpoint.camera);
  }

  setPath(points: Vec3[] | null): void {
    this.#path.set(points, 0.003 * this.#size);
    this.#loop.request();
  }

  setGhost(poseBodies: number[], frame: PoseFrame | null): void {
    this.#loaded?.ghost.set(poseBodies, frame);
    this.#loop.request();
  }

  setMarks(marks: Mark[]): void {
    this.#marks = marks;
    this.#outline();
  }

  setEditable(isEditable: boolean): void {
    this.#drag.isEditable = isEditable;
    this.#drag.select(this.#drag.selected);
  }

  select(body: string | null): void {
    const chosen = body === null ? undefined : this.#loaded?.bodyOf(body);
    this.#drag.select(chosen?.isFree ? chosen.id : null);
    this.#outline();
  }

  nudge(delta: Vec3): void {
    this.#drag.nudge(delta);
  }

  lookFrom(camera: string | null): void {
    this.#viewpoint.follow(camera);
    this.#showSky();
  }

  setTheme(theme: "dark" | "light"): void {
    this.#background.set(BACKGROUNDS[theme]);
    this.#fog.color.set(BACKGROUNDS[theme]);
    this.#stage.element.style.background = BACKGROUNDS[theme];
    this.#showSky();
  }

  setQuality(quality: ViewerOptions["quality"]): void {
    const chosen = chooseQuality(quality, this.#rendererName);
    if (chosen === this.#quality) return;
    this.#quality = chosen;
    this.#loop.minIntervalMs = this.#quality === "low" ? LOW.minIntervalMs : 0;
    this.#loop.settleMs = this.#quality === "low" ? LOW.settleMs : 0;
    const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.#viewpoint.controls.enableDamping = this.#quality === "high" && !isCalm;
    this.#stage.open(this.#quality);
    this.#applyQuality();
  }

  dispose(): void {
    this.#loads += 1;
    this.#loop.stop();
    this.#loaded?.dispose();
    this.#drag.dispose();
    this.#path.dispose();
    this.#viewpoint.dispose();
    this.#stage.dispose();
  }

  #show(model: SceneModel): void {
    const isSame = this.#loaded?.model.info.sceneId === model.info.sceneId;
    const selected = this.#drag.selected;
    this.#loaded?.dispose();
    this.#loaded = new LoadedScene(model);
    this.#loaded.addTo(this.#scene);
    this.#marks = [];
    this.#path.set(null, 0);
    this.#drag.show(model);
    if (isSame) this.#drag.select(selected);
    else if (selected !== null) this.#options.onSelect(null);
    this.#viewpoint.show(model);
    this.#showSky();
    this.#outline();
    this.#applyQuality();
  }

  /** Out of one of its cameras the scene has its own sky; else it stands in the page's colours, and fades into them. */
  #showSky(): void {
    const sky = this.#viewpoint.isFollowing ? (this.#loaded?.model.sky ?? null) : null;
    this.#scene.background = sky ?? this.#background;
    this.#scene.fog = sky === null ? this.#fog : null;
    this.#loop.request();
  }

  #applyQuality(): void {
    this.#loaded?.applyQuality(this.quality, this.#stage.renderer?.capabilities.getMaxAnisotropy() ?? 1);
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
    this.#fog.near = distance + 0.8 * this.#size;
    this.#fog.far = distance + 3 * this.#size;
  }

  /** Something in the scene moved: its shadows are to be drawn again too. */
  #changed(): void {
    if (this.#stage.renderer) this.#stage.renderer.shadowMap.needsUpdate = true;
    this.#loop.request();
  }

  #outline(): void {
    this.#loaded?.outline(this.#drag.selected, this.#marks);
    this.#loop.request();
  }

  #moved(id: number, [x, y, z, ...quaternion]: Pose, isFinal: boolean): void {
    this.#options.onMove(this.#nameOf(id), [x, y, z], quaternion, isFinal);
  }

  #nameOf(id: number): string {
    return this.#loaded?.nameOf(id) ?? "";
  }

  get #size(): number {
    return this.#loaded?.size ?? 1;
  }
}
