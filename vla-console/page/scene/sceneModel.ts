// The scene that the server describes (binary glTF), as named bodies that can be placed one by one, with z up.

import {
  Box3,
  type Light,
  Mesh,
  type Object3D,
  type PerspectiveCamera,
  type Texture,
  TextureLoader,
  Vector3,
} from "three";
import { type GLTF, GLTFLoader } from "three/examples/jsm/loaders/GLTFLoader.js";
import { skyOf } from "./sky";
import type { SceneBody, SceneInfo } from "./viewer";

export interface SceneModel {
  info: SceneInfo;
  /** The world's frame, z up; its children are the bodies. */
  world: Object3D;
  /** By the body's id. */
  bodies: Map<number, Object3D>;
  /** What is drawn of each body, by the body's id. */
  meshes: Map<number, Mesh[]>;
  cameras: Map<string, PerspectiveCamera>;
  lights: Light[];
  /** What the scene's cameras see beyond everything; null where the scene says nothing. */
  sky: Texture | null;
  /** Corners of everything that moves, or of the whole scene when nothing does. */
  outline: Vector3[];
  /** Around `outline`. */
  box: Box3;
  /** The horizontal direction from the robot's base to its objects. */
  facing: Vector3;
  dispose(): void;
}

export async function loadScene(glb: ArrayBuffer): Promise<SceneModel> {
  const gltf = await gltfLoader().parseAsync(glb, "");
  const world = gltf.scene.getObjectByName("world");
  if (world === undefined) throw new Error("The scene's glTF has no node 'world'; load a reply of /scenes/geometry.");
  world.removeFromParent();
  world.rotation.set(0, 0, 0); // The file turns z up to y up for other viewers; this view keeps z up.
  world.updateMatrix();
  world.updateMatrixWorld(true);

  const nodes = world.children.filter((node) => node.userData.body !== undefined);
  const bodies = new Map(nodes.map((node) => [node.userData.body as number, node]));
  const meshes = new Map(nodes.map((node) => [node.userData.body as number, meshesOf(node)]));
  const cameras = cameraNodes(gltf);
  const info = describe(gltf, nodes, [...cameras.keys()]);
  freezeMatrices(world);
  const sky = skyOf(gltf.scene.userData.skybox);
  const outline = outlineOf(info.bodies, meshes, gltf.scene.userData);
  return {
    info,
    world,
    bodies,
    meshes,
    cameras,
    lights: lightsOf(world),
    sky,
    outline,
    box: new Box3().setFromPoints(outline),
    facing: facingOf(info.bodies, bodies),
    dispose: () => {
      disposeMeshes([...meshes.values()].flat());
      sky?.dispose();
    },
  };
}

function gltfLoader(): GLTFLoader {
  const loader = new GLTFLoader();
  // The default loader of textures fetches blob: addresses, which the page's policy (connect-src 'self') refuses;
  // an image element may load them.
  return loader.register((parser) => {
    parser.textureLoader = new TextureLoader(parser.options.manager);
    return { name: "textures_by_image_element" };
  });
}

function describe(gltf: GLTF, nodes: Object3D[], cameras: string[]): SceneInfo {
  const names = (gltf.scene.userData.bodies ?? []) as string[];
  const bodies = nodes.map(
    ({ userData, name }): SceneBody => ({
      id: userData.body,
      name: names[userData.body] || userData.name || name,
      parent: userData.parent,
      isFree: userData.free === true,
      isStatic: userData.static === true,
    }),
  );
  return { sceneId: gltf.scene.userData.scene_id ?? "", bodies, cameras };
}

function cameraNodes(gltf: GLTF): Map<string, PerspectiveCamera> {
  const cameras = gltf.cameras.filter((camera) => "isPerspectiveCamera" in camera) as PerspectiveCamera[];
  return new Map(cameras.map((camera) => [camera.userData.name || camera.name, camera]));
}

function meshesOf(node: Object3D): Mesh[] {
  const meshes: Mesh[] = [];
  node.traverse((object) => object instanceof Mesh && meshes.push(object));
  return meshes;
}

function lightsOf(world: Object3D): Light[] {
  const lights: Light[] = [];
  world.traverse((object) => "isLight" in object && lights.push(object as Light));
  return lights;
}

/** Only bodies move, by `place`; nothing else is recomputed in each frame. */
function freezeMatrices(world: Object3D): void {
  world.traverse((object) => {
    object.updateMatrix();
    object.matrixAutoUpdate = false;
  });
}

function outlineOf(bodies: SceneBody[], meshes: Map<number, Mesh[]>, scene: Record<string, unknown>): Vector3[] {
  const center = new Vector3(...((scene.center as [number, number, number]) ?? [0, 0, 0]));
  const extent = (scene.extent as number) ?? 1;
  const moving = bodies.filter(({ isStatic }) => !isStatic).flatMap(({ id }) => meshes.get(id) ?? []);
  // Objects that are not in use are often kept far away.
  const corners = moving.flatMap(cornersOf).filter((corner) => corner.distanceTo(center) < 2 * extent);
  if (corners.length > 0) return corners;
  return boxCorners(new Box3().setFromCenterAndSize(center, new Vector3().setScalar(extent)));
}

/** The corners of the box around a mesh along its own axes, which fits closer than one along the world's. */
function cornersOf({ geometry, matrixWorld }: Mesh): Vector3[] {
  geometry.computeBoundingBox();
  return boxCorners(geometry.boundingBox ?? new Box3()).map((corner) => corner.applyMatrix4(matrixWorld));
}

function boxCorners({ min, max }: Box3): Vector3[] {
  return [min.x, max.x].flatMap((x) => [min.y, max.y].flatMap((y) => [min.z, max.z].map((z) => new Vector3(x, y, z))));
}

function facingOf(bodies: SceneBody[], nodes: Map<number, Object3D>): Vector3 {
  const base = bodies.find(({ isStatic, isFree }) => !isStatic && !isFree);
  const objects = bodies.filter(({ isFree }) => isFree).map(({ id }) => nodes.get(id) as Object3D);
  if (base === undefined || objects.length === 0) return new Vector3(1, 0, 0);
  const sum = objects.reduce((total, { position }) => total.add(position), new Vector3());
  const facing = sum
    .divideScalar(objects.length)
    .sub((nodes.get(base.id) as Object3D).position)
    .setZ(0);
  return facing.length() > 0.05 ? facing.normalize() : new Vector3(1, 0, 0);
}

function disposeMeshes(meshes: Mesh[]): void {
  for (const mesh of meshes) mesh.geometry.dispose();
}
