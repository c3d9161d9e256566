// The end effector's predicted path: a tube that fades with time, with a bead at each predicted action.

import {
  BufferAttribute,
  type BufferGeometry,
  CatmullRomCurve3,
  type DepthModes,
  DoubleSide,
  GreaterDepth,
  Group,
  Mesh,
  MeshBasicMaterial,
  SphereGeometry,
  TubeGeometry,
  Vector3,
} from "three";
import { mergeGeometries } from "three/examples/jsm/utils/BufferGeometryUtils.js";
import type { Vec3 } from "../api/types";

const FAINTEST = 0.12;

export class PredictedPath {
  readonly group = new Group();
  readonly #seen = new Mesh<BufferGeometry, MeshBasicMaterial>(undefined, pathMaterial({ opacity: 1 }));
  /** What the gripper or the ghost hides shines through faintly. */
  readonly #hidden = new Mesh<BufferGeometry, MeshBasicMaterial>(
    undefined,
    pathMaterial({ opacity: 0.45, depthFunc: GreaterDepth }),
  );

  constructor() {
    this.#seen.renderOrder = 1; // Before the ghost, whose depth would hide it.
    this.#hidden.renderOrder = 4;
    this.group.visible = false;
    this.group.add(this.#seen, this.#hidden);
  }

  /** A path of this radius [m]; null removes it. */
  set(points: Vec3[] | null, radius: number): void {
    this.#seen.geometry.dispose();
    this.group.visible = points !== null && points.length > 0;
    if (points !== null && points.length > 0) {
      this.#seen.geometry = this.#hidden.geometry = pathGeometry(points, radius);
    }
  }

  dispose(): void {
    for (const { geometry, material } of [this.#seen, this.#hidden]) {
      geometry.dispose();
      material.dispose();
    }
  }
}

function pathMaterial(depth: { opacity: number; depthFunc?: DepthModes }): MeshBasicMaterial {
  return new MeshBasicMaterial({
    color: "#4f9dff",
    vertexColors: true,
    transparent: true,
    depthWrite: false,
    side: DoubleSide,
    ...depth,
  });
}

/** One geometry of tube and beads; the alpha of its colours falls from 1 at the first point to `FAINTEST` at the last. */
export function pathGeometry(points: Vec3[], radius: number): BufferGeometry {
  const vectors = points.map((point) => new Vector3(...point));
  const last = Math.max(1, vectors.length - 1);
  const parts = vectors.map((point, index) => bead(point, radius * 1.9, alphaAt(index / last)));
  const distinct = vectors.filter(
    (point, index) => index === 0 || point.distanceTo(vectors[index - 1] as Vector3) > 1e-4,
  );
  if (distinct.length > 1) parts.push(fadingTube(distinct, radius));
  return mergeGeometries(parts);
}

export function alphaAt(progress: number): number {
  return 1 - (1 - FAINTEST) * progress;
}

function bead(point: Vector3, radius: number, alpha: number): BufferGeometry {
  const geometry = new SphereGeometry(radius, 12, 8).translate(point.x, point.y, point.z);
  return withAlpha(geometry, () => alpha);
}

function fadingTube(points: Vector3[], radius: number): BufferGeometry {
  const [segments, sides] = [points.length * 6, 8];
  const geometry = new TubeGeometry(new CatmullRomCurve3(points), segments, radius, sides);
  return withAlpha(geometry, (vertex) => alphaAt(Math.floor(vertex / (sides + 1)) / segments));
}

function withAlpha(geometry: BufferGeometry, alphaOf: (vertex: number) => number): BufferGeometry {
  const count = geometry.getAttribute("position").count;
  const colors = new Float32Array(4 * count).fill(1);
  for (let vertex = 0; vertex < count; vertex++) colors[4 * vertex + 3] = alphaOf(vertex);
  return geometry.setAttribute("color", new BufferAttribute(colors, 4));
}
