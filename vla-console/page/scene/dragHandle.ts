// What a selected object is lifted and turned by: a small arrow above it and a thin ring around it.

import {
  Box3,
  type BufferGeometry,
  ConeGeometry,
  CylinderGeometry,
  Group,
  Mesh,
  MeshBasicMaterial,
  type Object3D,
  type PerspectiveCamera,
  type Raycaster,
  TorusGeometry,
} from "three";

export type HandlePart = "lift" | "turn";

/** The arrow's length as a share of its distance from the eye: it is as large from near as from far. */
const ARROW = 0.055;
/** The ring's thickness, its grip's, and its gap around the body, as shares of the scene's size. */
const RING = { thickness: 0.0013, grip: 0.008, gap: 0.014 };

export class DragHandle {
  readonly group = new Group();
  readonly #line = new MeshBasicMaterial({ color: "#4f9dff", transparent: true, opacity: 0.85, fog: false });
  readonly #invisible = new MeshBasicMaterial({ visible: false });
  readonly #arrow = new Group();
  readonly #ring = new Mesh<BufferGeometry>(undefined, this.#line);
  readonly #liftGrip = new Mesh(new CylinderGeometry(0.3, 0.3, 1.1).translate(0, 0.5, 0), this.#invisible);
  readonly #turnGrip = new Mesh<BufferGeometry>(undefined, this.#invisible);

  constructor() {
    this.group.visible = false;
    const shaft = new Mesh(new CylinderGeometry(0.025, 0.025, 0.7).translate(0, 0.35, 0), this.#line);
    const head = new Mesh(new ConeGeometry(0.12, 0.34, 20).translate(0, 0.83, 0), this.#line);
    this.#arrow.add(shaft, head, this.#liftGrip);
    this.#arrow.rotation.x = Math.PI / 2; // three.js builds along y; up is z.
    this.group.add(this.#arrow, this.#ring, this.#turnGrip);
  }

  /** Put the handle around a body of a scene of this size [m]; null hides it. */
  attach(body: Object3D | null, sceneSize: number): void {
    this.group.visible = body !== null;
    if (body === null) return;
    const { min, max } = new Box3().expandByPoint(body.position).expandByObject(body, true);
    const radius = Math.hypot(max.x - min.x, max.y - min.y) / 2 + RING.gap * sceneSize;
    this.#arrow.position.z = max.z - body.position.z;
    this.#freeRing();
    this.#ring.geometry = new TorusGeometry(radius, RING.thickness * sceneSize, 8, 64);
    this.#turnGrip.geometry = new TorusGeometry(radius, RING.grip * sceneSize, 6, 32);
  }

  follow(body: Object3D, camera: PerspectiveCamera): void {
    this.group.position.copy(body.position);
    this.#arrow.scale.setScalar(ARROW * camera.position.distanceTo(body.position));
    this.group.updateMatrixWorld(true);
  }

  /** The part under the pointer. */
  pick(ray: Raycaster): HandlePart | null {
    if (!this.group.visible) return null;
    const [hit] = ray.intersectObjects([this.#liftGrip, this.#turnGrip], false);
    if (hit === undefined) return null;
    return hit.object === this.#liftGrip ? "lift" : "turn";
  }

  dispose(): void {
    this.#freeRing();
    for (const part of this.#arrow.children) if (part instanceof Mesh) part.geometry.dispose();
    this.#line.dispose();
    this.#invisible.dispose();
  }

  #freeRing(): void {
    this.#ring.geometry.dispose();
    this.#turnGrip.geometry.dispose();
  }
}
