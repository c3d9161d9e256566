// Free bodies moved by hand: picked with the pointer, slid over the table, lifted and turned by the handle, or by keys.

import { Box3, type Object3D, type PerspectiveCamera, Quaternion, Vector3 } from "three";
import type { Pose, Vec3 } from "../api/types";
import { poseOf } from "./bodyPose";
import { DragHandle } from "./dragHandle";
import { followPointer, type Grip, type Reach, takeBody, takeHandle, UP } from "./grip";
import { moveOfKey } from "./moveKeys";
import { type BodyHit, Picker } from "./picking";
import type { SceneModel } from "./sceneModel";

/** What the drag needs of the view around it. */
export interface DragHost {
  element: HTMLElement;
  camera: PerspectiveCamera;
  setOrbit(isEnabled: boolean): void;
  onSelect(id: number | null): void;
  onMove(id: number, pose: Pose, isFinal: boolean): void;
  requestFrame(): void;
}

/** How far the pointer of a click may move [px]. */
const CLICK = 4;
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
  readonly picker: Picker;
  readonly #listeners = new AbortController();

  constructor(host: DragHost) {
    this.#host = host;
    this.picker = new Picker(host.element);
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
    this.#hasMoved = false; // What was in hand is gone with its scene.
    this.#release();
    this.#selected = null;
    this.#model = model;
    this.select(null);
  }

  select(id: number | null): void {
    if (id !== this.#selected) this.#endMove();
    this.#selected = id;
    this.handle.attach(this.isEditable ? this.#body() : null, this.#reach().distance);
    this.#host.requestFrame();
  }

  /** Call before each frame. */
  update(): void {
    const body = this.#body();
    if (body !== null) this.handle.follow(body, this.#host.camera);
  }

  nudge(delta: Vec3): void {
    const body = this.#body();
    if (body === null || !this.isEditable) return;
    body.position.add(new Vector3(...delta));
    this.#moved(body, true);
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
    this.#press = { x: event.clientX, y: event.clientY };
    if (!this.isEditable) return;
    this.picker.aim(event, this.#host.camera);
    const part = this.handle.pick(this.picker.raycaster);
    if (part !== null) this.#grip = takeHandle(part, this.#body() as Object3D, this.picker.raycaster.ray);
    else this.#takeBodyAt(event, this.picker.freeBody(this.#model));
    if (this.#grip === null) return;
    this.#host.setOrbit(false);
    this.#host.element.setPointerCapture(event.pointerId);
    this.#host.element.style.cursor = CURSORS[this.#grip.part];
  }

  #takeBodyAt(event: PointerEvent, hit: BodyHit | null): void {
    // A finger turns the view unless the object was selected by a tap before.
    if (hit === null || (event.pointerType === "touch" && hit.id !== this.#selected)) return;
    if (hit.id !== this.#selected) this.#choose(hit.id);
    this.#grip = takeBody(this.#body() as Object3D, hit.point);
  }

  #move(event: PointerEvent): void {
    if (this.#model === null || !this.isEditable || !event.isPrimary) return;
    this.picker.aim(event, this.#host.camera);
    const body = this.#body();
    if (this.#grip === null || body === null) this.#hover(event);
    else if (!this.#hasMoved && this.#isClick(event)) return;
    else if (followPointer(this.#grip, body, this.picker.raycaster.ray, this.#reach())) this.#moved(body, false);
  }

  #reach(): Reach {
    const box = this.#model?.box ?? new Box3();
    return { center: box.getCenter(new Vector3()), distance: box.getSize(new Vector3()).length() };
  }

  #hover(event: PointerEvent): void {
    if (event.buttons !== 0 || event.pointerType === "touch") return;
    const part = this.handle.pick(this.picker.raycaster);
    const isOnBody = part === null && this.picker.freeBody(this.#model as SceneModel) !== null;
    this.#host.element.style.cursor = part !== null ? CURSORS[part] : isOnBody ? "grab" : "";
  }

  #up(event: PointerEvent): void {
    const isClick = this.#isClick(event);
    const isHeld = this.#grip !== null;
    this.#release();
    if (!isClick || isHeld || !this.isEditable || this.#model === null) return;
    this.picker.aim(event, this.#host.camera);
    const isTouch = event.pointerType === "touch";
    const hit =
      this.picker.freeBody(this.#model) ??
      (isTouch ? this.picker.freeBodyNear(event, this.#model, this.#host.camera) : null);
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
    const move = moveOfKey(event.key, this.#host.camera.getWorldDirection(new Vector3()));
    if (move === null && event.key !== "Escape") return;
    event.preventDefault();
    event.stopPropagation();
    if (move === null) {
      this.#choose(null);
      return;
    }
    body.position.add(move.delta);
    body.quaternion.premultiply(new Quaternion().setFromAxisAngle(UP, move.turn));
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
