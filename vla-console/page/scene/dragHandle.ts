// What a selected object is lifted and turned by: a small arrow above it and a thin ring around it.

import {
  Box3,
  ConeGeometry,
  CylinderGeometry,
  Group,
  Mesh,
  MeshBasicMaterial,
  type Object3D,
  type PerspectiveCamera,
  type Raycaster,
  Sphere,
  TorusGeometry,
} from "three";

export type HandlePart = "lift" | "turn";

const ARROW = 0.055;
const RING_AROUND = 1.5;

export class DragHandle {
  readonly group = new Group();
  readonly #line = new MeshBasicMaterial({
    color: "#4f9dff",
    transparent: true,
    opacity: 0.85,
    toneMapped: false,
    fog: false,
  });
  readonly #invisible = new MeshBasicMaterial({ visible: false });
  readonly #arrow = new Group();
  readonly #ring = new Group();
  readonly #grips = new Map<Object3D, HandlePart>();
  #radius = 0;

  constructor() {
    this.group.visible = false;
    this.group.add(this.#arrow, this.#ring);
    this.#add(this.#arrow, new CylinderGeometry(0.025, 0.025, 0.7).translate(0, 0.35, 0));
    this.#add(this.#arrow, new ConeGeometry(0.12, 0.34, 20).translate(0, 0.83, 0));
    this.#grip("lift", this.#arrow, new CylinderGeometry(0.3, 0.3, 1.1).translate(0, 0.5, 0));
    this.#arrow.rotation.x = Math.PI / 2; // three.js builds along y; up is z.
    this.#add(this.#ring, new TorusGeometry(1, 0.022, 8, 64));
    this.#grip("turn", this.#ring, new TorusGeometry(1, 0.12, 6, 32));
  }

  attach(body: Object3D | null): void {
    this.group.visible = body !== null;
    if (body !== null) this.#radius = new Box3().setFromObject(body).getBoundingSphere(new Sphere()).radius;
  }

  /** Stay around the body, at the same size on the screen from near and far. */
  follow(body: Object3D, camera: PerspectiveCamera): void {
    this.group.position.copy(body.position);
    const unit = ARROW * camera.position.distanceTo(body.position);
    this.#arrow.scale.setScalar(unit);
    this.#arrow.position.z = this.#radius * 0.9;
    this.#ring.scale.setScalar(Math.max(this.#radius * RING_AROUND, unit * 0.6));
    this.group.updateMatrixWorld(true);
  }

  /** The part under the pointer, and how far away it is. */
  pick(ray: Raycaster): { part: HandlePart; distance: number } | null {
    if (!this.group.visible) return null;
    const [hit] = ray.intersectObjects([...this.#grips.keys()], false);
    return hit === undefined ? null : { part: this.#grips.get(hit.object) as HandlePart, distance: hit.distance };
  }

  dispose(): void {
    this.group.traverse((object) => object instanceof Mesh && object.geometry.dispose());
    this.#line.dispose();
    this.#invisible.dispose();
  }

  #add(parent: Group, geometry: ConeGeometry | CylinderGeometry | TorusGeometry): void {
    parent.add(new Mesh(geometry, this.#line));
  }

  #grip(part: HandlePart, parent: Group, geometry: CylinderGeometry | TorusGeometry): void {
    const grip = new Mesh(geometry, this.#invisible);
    this.#grips.set(grip, part);
    parent.add(grip);
  }
}
