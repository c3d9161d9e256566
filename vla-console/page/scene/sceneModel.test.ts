import assert from "node:assert/strict";
import { test } from "node:test";
import { Vector3 } from "three";
import { loadScene } from "./sceneModel";

const TRIANGLE = new Float32Array([0, 0, 0, 0.1, 0, 0, 0, 0.1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 1]);
const HALF = Math.SQRT1_2;

/** A scene as the server writes it: bodies are children of `world`, which turns z up to y up. */
const SCENE = {
  asset: { version: "2.0" },
  scene: 0,
  scenes: [
    { nodes: [3], extras: { scene_id: "s1", bodies: ["world", "arm", "red cube"], center: [0, 0, 0], extent: 1 } },
  ],
  nodes: [
    { name: "world", extras: { body: 0, parent: 0, free: false, static: true }, children: [4] },
    { name: "arm", extras: { body: 1, parent: 0, free: false, static: false }, mesh: 0 },
    {
      name: "red cube",
      extras: { body: 2, parent: 0, free: true, static: false },
      translation: [0.4, 0.1, 0.7],
      mesh: 0,
    },
    { name: "world", rotation: [-HALF, 0, 0, HALF], children: [0, 1, 2] },
    { name: "front.left", extras: { camera: 0, name: "front.left" }, camera: 0, translation: [1, 0, 1] },
  ],
  cameras: [{ type: "perspective", perspective: { yfov: 1, znear: 0.01 } }],
  meshes: [{ primitives: [{ attributes: { POSITION: 0, NORMAL: 1 } }] }],
  accessors: [
    { bufferView: 0, componentType: 5126, count: 3, type: "VEC3", min: [0, 0, 0], max: [0.1, 0.1, 0] },
    { bufferView: 0, byteOffset: 36, componentType: 5126, count: 3, type: "VEC3" },
  ],
  bufferViews: [{ buffer: 0, byteLength: TRIANGLE.byteLength }],
  buffers: [{ byteLength: TRIANGLE.byteLength }],
};

function glbOf(json: object): ArrayBuffer {
  const text = new TextEncoder().encode(JSON.stringify(json));
  const jsonLength = Math.ceil(text.length / 4) * 4;
  const glb = new Uint8Array(28 + jsonLength + TRIANGLE.byteLength).fill(0x20);
  const view = new DataView(glb.buffer);
  for (const [index, word] of [0x46546c67, 2, glb.length, jsonLength, 0x4e4f534a].entries())
    view.setUint32(4 * index, word, true);
  glb.set(text, 20);
  view.setUint32(20 + jsonLength, TRIANGLE.byteLength, true);
  view.setUint32(24 + jsonLength, 0x004e4942, true);
  glb.set(new Uint8Array(TRIANGLE.buffer), 28 + jsonLength);
  return glb.buffer;
}

test("z stays up: a body is where the simulation has it", async () => {
  const { world, bodies } = await loadScene(glbOf(SCENE));
  world.updateMatrixWorld(true);
  const place = bodies.get(2)?.getWorldPosition(new Vector3());
  assert.ok(place !== undefined && place.distanceTo(new Vector3(0.4, 0.1, 0.7)) < 1e-6);
});

test("bodies and cameras have the scene's own names", async () => {
  const { info } = await loadScene(glbOf(SCENE));
  assert.equal(info.sceneId, "s1");
  assert.deepEqual(info.bodies[2], { id: 2, name: "red cube", parent: 0, isFree: true, isStatic: false });
  assert.deepEqual(info.cameras, ["front.left"]);
});

test("the robot faces its objects", async () => {
  const { facing } = await loadScene(glbOf(SCENE));
  assert.ok(facing.distanceTo(new Vector3(0.4, 0.1, 0).normalize()) < 1e-6);
});

test("a file that is not a scene of the server is refused in words", async () => {
  const scene = { asset: { version: "2.0" }, scene: 0, scenes: [{ nodes: [] }] };
  await assert.rejects(loadScene(glbOf(scene)), /no node 'world'/);
});
