// `window.__console`: what the page shows, to be read by tests.

import type { Signal } from "@preact/signals";
import type { Server } from "./api/server";
import type { Vec3 } from "./api/types";
import type { RunDesk } from "./episode/runDesk";
import type { SceneView } from "./episode/sceneView";
import type { View } from "./panels/header";

export interface PageState {
  view: View;
  status: string;
  step: number;
  time: number;
  playhead: number;
  live: boolean;
  sceneId: string | null;
  selectedBody: string | null;
  posesReceived: number;
  framesDrawn: number;
  /** Bytes of the episode's images and predicted poses. */
  keptBytes: number;
  servers: string[];
  /** Where the free bodies are shown [m]. */
  bodies: Record<string, Vec3>;
}

export function exposeState(
  view: Signal<View>,
  desk: Signal<RunDesk | null>,
  scene: SceneView,
  servers: Signal<Server[]>,
): void {
  Object.defineProperty(window, "__console", {
    configurable: true,
    get: () => pageState(view.value, desk.value, scene, servers.value),
  });
}

function pageState(view: View, desk: RunDesk | null, scene: SceneView, servers: Server[]): PageState {
  const run = desk?.run;
  const viewer = scene.viewer.value;
  const bodies = scene.freeBodies.value.flatMap(({ name }) => {
    const pose = viewer?.pose(name);
    return pose ? [[name, pose.slice(0, 3) as Vec3] as const] : [];
  });
  return {
    view,
    status: run?.status.value ?? "idle",
    step: run?.step.value ?? 0,
    time: run?.time.value ?? 0,
    playhead: run?.playback.playhead.value ?? 0,
    live: run?.playback.isLive.value ?? true,
    sceneId: desk?.scene.shown.value?.sceneId ?? null,
    selectedBody: scene.selected.value,
    posesReceived: run?.posesReceived.value ?? 0,
    framesDrawn: viewer?.framesDrawn ?? 0,
    keptBytes: run?.keptBytes ?? 0,
    servers: servers.map((server) => server.name),
    bodies: Object.fromEntries(bodies),
  };
}
