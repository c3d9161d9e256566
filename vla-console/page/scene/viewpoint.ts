// The eye of the view: it orbits around the scene, or looks out of one of the scene's cameras.

import { PerspectiveCamera, Vector3 } from "three";
import { OrbitControls } from "three/examples/jsm/controls/OrbitControls.js";
import { fitFov, framePoints } from "./framing";
import type { SceneModel } from "./sceneModel";

const FOV = 40;

export class ViewpointControl {
  readonly camera = new PerspectiveCamera(FOV);
  readonly controls: OrbitControls;
  #model: SceneModel | null = null;
  /** The name of the scene's camera that the view looks out of. */
  #followed: string | null = null;
  /** The visitor has not turned the view yet: a change of size frames the scene again. */
  #isFramed = true;

  constructor(element: HTMLElement, onChange: () => void) {
    this.camera.up.set(0, 0, 1);
    this.controls = new OrbitControls(this.camera, element);
    this.controls.addEventListener("start", () => this.#prepareOrbit());
    this.controls.addEventListener("change", () => {
      this.#followed = null;
      onChange();
    });
  }

  /** Look at a scene; the view stays as it is when the same scene is loaded again. */
  show(model: SceneModel): void {
    const isSame = this.#model?.info.sceneId === model.info.sceneId;
    this.#model = model;
    if (isSame) return;
    const size = model.box.getSize(new Vector3()).length();
    Object.assign(this.camera, { near: size * 0.008, far: size * 40 });
    // The floor is not to be seen from below.
    Object.assign(this.controls, { minDistance: size * 0.12, maxDistance: size * 5, maxPolarAngle: 0.49 * Math.PI });
    this.follow(null);
  }

  /** Look out of a camera from now on, also when it moves; null goes back to the first viewpoint. */
  follow(camera: string | null): void {
    this.#followed = camera;
    this.#isFramed = this.#camera === undefined;
    this.resize(this.camera.aspect);
  }

  resize(aspect: number): void {
    this.camera.aspect = aspect;
    if (this.#camera !== undefined) this.camera.fov = fitFov(this.#camera.fov, this.#camera.aspect, aspect);
    if (this.#isFramed) this.#frame();
    this.camera.updateProjectionMatrix();
  }

  /** Call before each frame. */
  update(): void {
    if (this.#camera === undefined) this.controls.update();
    else this.#camera.matrixWorld.decompose(this.camera.position, this.camera.quaternion, new Vector3());
    this.camera.updateMatrixWorld();
  }

  dispose(): void {
    this.controls.dispose();
  }

  /** The view is out of one of the scene's cameras. */
  get isFollowing(): boolean {
    return this.#camera !== undefined;
  }

  get #camera(): PerspectiveCamera | undefined {
    return this.#model?.cameras.get(this.#followed ?? "");
  }

  #frame(): void {
    if (this.#model === null) return;
    const { position, target } = framePoints(this.#model.outline, this.#model.facing, FOV, this.camera.aspect);
    this.camera.fov = FOV;
    this.camera.position.copy(position);
    this.controls.target.copy(target);
    this.controls.update();
  }

  /** Orbit from where a camera looks, around what it looks at, should the visitor now turn the view. */
  #prepareOrbit(): void {
    this.#isFramed = false;
    if (this.#camera === undefined || this.#model === null) return;
    const ahead = this.camera.getWorldDirection(new Vector3());
    const distance = Math.max(this.controls.minDistance, this.#model.box.distanceToPoint(this.camera.position));
    this.controls.target.copy(this.camera.position).addScaledVector(ahead, distance);
  }
}
