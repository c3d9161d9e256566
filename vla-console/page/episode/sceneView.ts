// What the page knows of its 3-D view: the scene's bodies, which one is selected, how well it is drawn.

import { computed, signal } from "@preact/signals";
import type { BodyPose, Pose, PoseFrame } from "../api/types";
import type { SceneInfo, Viewer, ViewerOptions } from "../scene/viewer";

export class SceneView {
  readonly viewer = signal<Viewer | null>(null);
  readonly info = signal<SceneInfo | null>(null);
  readonly selected = signal<string | null>(null);
  readonly quality = signal<ViewerOptions["quality"]>(firstQuality());
  readonly freeBodies = computed(() => this.info.value?.bodies.filter((body) => body.isFree) ?? []);
  readonly freeNames = computed<ReadonlySet<string>>(() => new Set(this.freeBodies.value.map((body) => body.name)));

  #home: PoseFrame = [];

  /** Show a scene, with the bodies that the visitor moved where they were put. */
  async load(viewer: Viewer, glb: ArrayBuffer, moved: Record<string, BodyPose> = {}): Promise<void> {
    this.info.value = null;
    const info = await viewer.load(glb);
    if (this.viewer.value !== viewer) return;
    this.#home = info.bodies.map(({ name }) => viewer.pose(name)).filter((pose) => pose !== null);
    for (const { id, name } of info.bodies) {
      const [pose, home] = [moved[name], viewer.pose(name)];
      if (pose && home) viewer.setPoses([id], [placed(home, pose)]);
    }
    this.info.value = info;
  }

  /** Put every body where the scene has it at its start. */
  goHome(): void {
    const bodies = this.info.value?.bodies ?? [];
    if (bodies.length === this.#home.length)
      this.viewer.value?.setPoses(
        bodies.map(({ id }) => id),
        this.#home,
      );
    this.select(null);
  }

  select(body: string | null): void {
    this.viewer.value?.select(body);
    this.selected.value = body;
  }
}

/** Without a quaternion a body keeps the one that it has. */
function placed([, , , ...kept]: Pose, { position, quaternion }: BodyPose): Pose {
  return [...position, ...(quaternion ?? kept)];
}

function firstQuality(): ViewerOptions["quality"] {
  const asked = new URLSearchParams(location.search).get("quality");
  return asked === "high" || asked === "low" ? asked : "auto";
}
