// What the page knows of its 3-D view: the scene's bodies, which one is selected, how well it is drawn.

import { computed, signal } from "@preact/signals";
import type { SceneInfo, Viewer, ViewerOptions } from "../scene/viewer";

export class SceneView {
  readonly viewer = signal<Viewer | null>(null);
  readonly info = signal<SceneInfo | null>(null);
  readonly selected = signal<string | null>(null);
  readonly quality = signal<ViewerOptions["quality"]>(firstQuality());
  readonly freeBodies = computed(() => this.info.value?.bodies.filter((body) => body.isFree) ?? []);
  readonly freeNames = computed<ReadonlySet<string>>(() => new Set(this.freeBodies.value.map((body) => body.name)));

  async load(viewer: Viewer, glb: ArrayBuffer): Promise<void> {
    this.info.value = null;
    const info = await viewer.load(glb);
    if (this.viewer.value === viewer) this.info.value = info;
  }

  select(body: string | null): void {
    this.viewer.value?.select(body);
    this.selected.value = body;
  }
}

function firstQuality(): ViewerOptions["quality"] {
  const asked = new URLSearchParams(location.search).get("quality");
  return asked === "high" || asked === "low" ? asked : "auto";
}
