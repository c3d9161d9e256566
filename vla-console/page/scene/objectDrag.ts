// Free bodies moved by hand: picked with the pointer, slid over the table, lifted and turned by the handle, or by keys.

import { type Object3D, type PerspectiveCamera, Quaternion, Vector3 } from "three";
import type { Pose, Vec3 } from "../api/types";
import { poseOf } from "./bodyPose";
import { DragHandle } from "./dragHandle";
import { aroundVertical, nearestAxis, onPlane, onVertical } from "./dragPlane";
import { Picker } from "./picking";
import type { SceneModel } from "./sceneModel";

/** What the drag needs of the view around it. */
export interface DragHost {
  element: HTMLElement;
  camera: PerspectiveCamera;
  setOrbit(isEnabled: boolean): void;
  focus(): void;
  onSelect(id: number | null): void;
  onMove(id: number, pose: Pose, isFinal: boolean): void;
  requestFrame(): void;
}

type Grip =
  | { part: "slide"; offset: Vector3; height: number }
  | { part: "lift"; offset: number }
  | { part: "turn"; angle: number; quaternion: Quaternion };

const UP = new Vector3(0, 0, 1);
/** How far the pointer of a click may move [px]. */
const CLICK = 4;
const STEP = 0.01;
const TURN = Math.PI / 12;
const CURSORS = { slide: "grabbing", lift: "ns-resize", turn: "ew-resize" } as const;

export class ObjectDrag {
  readonly handle = new DragHandle();
  isEditable = true;
  #model: SceneModel | null = null;
  #selected: number | null = null;
  #grip: Grip | null = null;
  #hasMoved = false;
  #press: { x: number; y: number } | null = null;
  readonly #host: DragHost;
  readonly #picker: Picker;
  readonly #listeners = new AbortController();

  constructor(host: DragHost) {
    this.#host = host;
    this.#picker = new Picker(host.element);
    const options = { signal: this.#listeners.signal, capture: true }; // Before the orbit's own listeners.
    host.element.addEventListener("pointerdown", (event) => this.#down(event), options);
    host.element.addEventListener("pointermove", (event) => this.#move(event), options);
    host.element.addEventListener("pointerup", (event) => this.#up(event), options);
    host.element.addEventListener("pointercancel", () => this.#release(), options);
    host.element.addEventListener("keydown", (event) => this.#key(event), options);
    host.element.addEventListener("keyup", () => this.#endMove(), options);
  }

  get selected(): number | null {
    return this.#selected;
  }

  /** The body in the visitor's hand: poses from elsewhere do not move it. */
  get held(): number | null {
    return this.#hasMoved ? this.#selected : null;
  }

  show(model: SceneModel): void {
    this.#model = model;
    this.#release();
    this.select(null);
  }

  select(id: number | null): void {
    if (id !== this.#selected) this.#endMove();
    this.#selected = id;
    this.handle.attach(this.isEditable ? this.#body() : null);
    this.#host.requestFrame();
  }

  /** Call before each frame. */
  update(): void {
    const body = this.#body();
    if (body !== null) this.handle.follow(body, this.#host.camera);
  }

  nudge(delta: Vec3, isFinal: boolean): void {
    const body = this.#body();
    if (body === null || !this.isEditable) return;
    body.position.add(new Vector3(...delta));
    this.#moved(body, isFinal);
  }

  dispose(): void {
    this.#listeners.abort();
    this.handle.dispose();
  }

  #body(): Object3D | null {
    return this.#selected === null ? null : (this.#model?.bodies.get(this.#selected) ?? null);
  }

  #down(event: PointerEvent): void {
    if (event.button !== 0 || !event.isPrimary || this.#model === null) return;
    this.#host.focus();
    this.#press = { x: event.clientX, y: event.clientY };
    if (!this.isEditable) return;
    this.#picker.aim(event, this.#host.camera);
    const part = this.handle.pick(this.#picker.raycaster)?.part;
    const hit = part === undefined ? this.#picker.freeBody(this.#model) : null;
    if (part !== undefined) this.#grip = this.#gripOf(part);
    // A finger turns the view unless the object was selected by a tap before.
    else if (hit !== null && (event.pointerType !== "touch" || hit.id === this.#selected))
      this.#take(hit.id, hit.point);
    if (this.#grip === null) return;
    this.#host.setOrbit(false);
    this.#host.element.setPointerCapture(event.pointerId);
    this.#host.element.style.cursor = CURSORS[this.#grip.part];
  }

  #take(id: number, point: Vector3): void {
    if (id !== this.#selected) this.#choose(id);
    const body = this.#body() as Object3D;
    this.#grip = { part: "slide", offset: body.position.clone().sub(point), height: point.z };
  }

  #gripOf(part: "lift" | "turn"): Grip | null {
    const body = this.#body() as Object3D;
    const { ray } = this.#picker.raycaster;
    if (part === "lift") {
      const height = onVertical(ray, body.position);
      return height === null ? null : { part, offset: body.position.z - height };
    }
    const angle = aroundVertical(ray, body.position);
    return angle === null ? null : { part, angle, quaternion: body.quaternion.clone() };
  }

  #move(event: PointerEvent): void {
    if (this.#model === null || !this.isEditable || !event.isPrimary) return;
    this.#picker.aim(event, this.#host.camera);
    const body = this.#body();
    if (this.#grip === null || body === null) this.#hover(event);
    else if (!this.#hasMoved && this.#isClick(event)) return;
    else if (this.#follow(this.#grip, body)) this.#moved(body, false);
  }

  #follow(grip: Grip, body: Object3D): boolean {
    const { ray } = this.#picker.raycaster;
    if (grip.part === "slide") {
      const { center, reach } = this.#reach();
      const point = onPlane(ray, grip.height, center, reach);
      if (point !== null) body.position.copy(point.add(grip.offset));
      return point !== null;
    }
    if (grip.part === "lift") {
      const height = onVertical(ray, body.position);
      if (height !== null) body.position.z = height + grip.offset;
      return height !== null;
    }
    const angle = aroundVertical(ray, body.position);
    if (angle !== null) body.quaternion.setFromAxisAngle(UP, angle - grip.angle).multiply(grip.quaternion);
    return angle !== null;
  }

  /** An object can be dragged a little farther than anything reaches, not to the horizon. */
  #reach(): { center: Vector3; reach: number } {
    const { box } = this.#model as SceneModel;
    return { center: box.getCenter(new Vector3()), reach: box.getSize(new Vector3()).length() };
  }

  #hover(event: PointerEvent): void {
    if (event.buttons !== 0 || event.pointerType === "touch") return;
    const part = this.handle.pick(this.#picker.raycaster)?.part;
    const isOnBody = part === undefined && this.#picker.freeBody(this.#model as SceneModel) !== null;
    this.#host.element.style.cursor = part !== undefined ? CURSORS[part] : isOnBody ? "grab" : "";
  }

  #up(event: PointerEvent): void {
    const isClick = this.#isClick(event);
    const isHeld = this.#grip !== null;
    this.#release();
    if (!isClick || isHeld || !this.isEditable || this.#model === null) return;
    this.#picker.aim(event, this.#host.camera);
    const isTouch = event.pointerType === "touch";
    const hit =
      this.#picker.freeBody(this.#model) ??
      (isTouch ? this.#picker.freeBodyNear(event, this.#model, this.#host.camera) : null);
    if ((hit?.id ?? null) !== this.#selected) this.#choose(hit?.id ?? null);
  }

  /** The pointer is still where it was pressed: a click, not yet a drag. */
  #isClick({ clientX, clientY }: PointerEvent): boolean {
    return this.#press !== null && Math.hypot(clientX - this.#press.x, clientY - this.#press.y) < CLICK;
  }

  #release(): void {
    this.#press = null;
    if (this.#grip === null) return;
    this.#grip = null;
    this.#host.setOrbit(true);
    this.#host.element.style.cursor = "";
    this.#endMove();
  }

  #choose(id: number | null): void {
    this.select(id);
    this.#host.onSelect(id);
  }

  #key(event: KeyboardEvent): void {
    const body = this.#body();
    if (body === null || !this.isEditable || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") this.#choose(null);
    else if (event.key === "," || event.key === ".") this.#turn(body, event.key === "," ? TURN : -TURN);
    else if (event.key in this.#steps()) this.nudge(this.#steps()[event.key]?.toArray() as Vec3, false);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** What each key does in the present view: the arrows move along the world's axes that are nearest to it. */
  #steps(): Record<string, Vector3> {
    const away = nearestAxis(this.#host.camera.getWorldDirection(new Vector3()));
    const right = new Vector3().crossVectors(away, UP);
    const along = (direction: Vector3, length: number) => direction.clone().multiplyScalar(length);
    return {
      ArrowUp: along(away, STEP),
      ArrowDown: along(away, -STEP),
      ArrowRight: along(right, STEP),
      ArrowLeft: along(right, -STEP),
      PageUp: along(UP, STEP),
      PageDown: along(UP, -STEP),
    };
  }

  #turn(body: Object3D, angle: number): void {
    body.quaternion.premultiply(new Quaternion().setFromAxisAngle(UP, angle));
    this.#moved(body, false);
  }

  #moved(body: Object3D, isFinal: boolean): void {
    body.updateMatrix();
    this.#hasMoved = !isFinal;
    this.#host.onMove(this.#selected as number, poseOf(body), isFinal);
    this.#host.requestFrame();
  }

  #endMove(): void {
    const body = this.#body();
    if (this.#hasMoved && body !== null) this.#moved(body, true);
  }
}
