// The scene's own light as the one that casts shadows, and a fill of sky and camera light, so that nothing is black.

import { type Box3, Color, DirectionalLight, HemisphereLight, type Light, Object3D, Sphere, Vector3 } from "three";
import type { Quality } from "./quality";
import type { SceneModel } from "./sceneModel";

// An intensity of pi makes a white surface that faces the light white. Together these clip nothing, so that no tone
// mapping is needed and colours are those that the policy's cameras see.
const KEY = 0.68 * Math.PI;
const FILL = 0.38 * Math.PI;
const SECOND = 0.14 * Math.PI;

export class Lighting {
  /** To be added to the scene. */
  readonly group = new Object3D();
  readonly #key: DirectionalLight;

  constructor({ lights, box }: SceneModel) {
    for (const light of lights) light.visible = false; // MuJoCo's units and counts differ: their directions are kept.
    const [first, second] = [...lights].sort((a, b) => Number(castsShadow(b)) - Number(castsShadow(a)));
    this.#key = directional(box, first ? directionOf(first) : new Vector3(-0.4, 0.3, -1), first?.color, KEY);
    fitShadow(this.#key, box);
    this.group.add(this.#key, this.#key.target, sky());
    if (second !== undefined) {
      const other = directional(box, directionOf(second), second.color, SECOND);
      this.group.add(other, other.target);
    }
  }

  apply(quality: Quality): void {
    this.#key.castShadow = quality === "high";
  }

  dispose(): void {
    this.#key.dispose();
  }
}

function sky(): HemisphereLight {
  const light = new HemisphereLight(new Color("#f4f8ff"), new Color("#8d8378"), FILL);
  light.position.set(0, 0, 1);
  return light;
}

function castsShadow(light: Light): boolean {
  return light.userData.castshadow === true;
}

/** Where a light of the scene shines; one from below or the side is raised, or its shadows would run to the horizon. */
function directionOf(light: Light): Vector3 {
  const direction = new Vector3(0, 0, -1).transformDirection(light.matrixWorld);
  direction.z = Math.min(direction.z, -0.5);
  // Straight down hides every shadow under its object.
  if (Math.hypot(direction.x, direction.y) < 0.15) direction.set(direction.x - 0.35, direction.y + 0.25, direction.z);
  return direction.normalize();
}

function directional(box: Box3, direction: Vector3, color: Color | undefined, intensity: number): DirectionalLight {
  const sphere = box.getBoundingSphere(new Sphere());
  const light = new DirectionalLight(tintOf(color), intensity);
  light.target.position.copy(sphere.center);
  light.position.copy(sphere.center).addScaledVector(direction, -4 * sphere.radius);
  return light;
}

/** The colour at full brightness: how bright the light is, is chosen here. */
function tintOf(color: Color | undefined): Color {
  const brightness = color === undefined ? 0 : Math.max(color.r, color.g, color.b);
  return color === undefined || brightness === 0 ? new Color("white") : color.clone().multiplyScalar(1 / brightness);
}

function fitShadow({ shadow }: DirectionalLight, box: Box3): void {
  const { radius } = box.getBoundingSphere(new Sphere());
  const reach = 1.8 * radius;
  Object.assign(shadow.camera, {
    left: -reach,
    right: reach,
    bottom: -reach,
    top: reach,
    near: radius,
    far: 9 * radius,
  });
  shadow.camera.updateProjectionMatrix();
  shadow.mapSize.set(2048, 2048);
  shadow.radius = 4;
  shadow.bias = -0.0004;
  shadow.normalBias = 0.012 * radius;
}
