// One side's scene: in 3-D, or what the policy's cameras see.

import type { ReadonlySignal } from "@preact/signals";
import { useSignal, useSignalEffect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { Server } from "../api/server";
import type { EpisodeRun } from "../episode/episodeRun";
import type { Viewer, ViewerOptions } from "../scene/viewer";
import { theme } from "../ui/theme";
import { momentOf, poseBodies } from "./pairRun";

export interface SceneProps {
  /** How the view is named to those who do not see it: "Side A". */
  name: string;
  run: EpisodeRun;
  playhead: ReadonlySignal<number>;
}

interface Scene3dProps extends SceneProps {
  server: Server;
  /** Robot and name of a bundled scene. */
  scene: string;
  robot: string;
  quality: ViewerOptions["quality"];
  onError(error: unknown): void;
}

export function Scene3d({ name, run, playhead, server, scene, robot, quality, onError }: Scene3dProps) {
  const box = useRef<HTMLDivElement>(null);
  const viewer = useSignal<Viewer | null>(null);
  /** The viewer once it shows the scene. */
  const loaded = useSignal<Viewer | null>(null);
  useEffect(() => {
    let isGone = false;
    void import("../scene/threeViewer").then(({ createViewer }) => {
      if (isGone || box.current === null) return;
      viewer.value = createViewer(box.current, { theme: theme.peek(), quality, onSelect() {}, onMove() {} });
    });
    return () => {
      isGone = true;
      viewer.value?.dispose();
      viewer.value = loaded.value = null;
    };
  }, [quality, viewer, loaded]);
  const made = viewer.value;
  useEffect(() => {
    if (made === null) return;
    let isCurrent = true;
    loaded.value = null;
    const load = async () => {
      const { glb } = await server.geometry({ xml: await server.sceneXml(scene) }, { robot });
      if (isCurrent) await made.load(glb);
      if (isCurrent) loaded.value = made;
    };
    load().catch((error) => isCurrent && onError(error));
    return () => {
      isCurrent = false;
    };
  }, [made, loaded, server, scene, robot, onError]);
  useSignalEffect(() => viewer.value?.setTheme(theme.value));
  useSignalEffect(() => {
    const { poses } = momentOf(run, playhead.value);
    const bodies = poseBodies(run.start.value);
    if (poses !== null) loaded.value?.setPoses(bodies, poses);
  });
  return <div ref={box} class="compare-canvas" role="img" aria-label={`${name}: the scene in 3-D`} />;
}

export function CameraStrip({ name, run, playhead }: SceneProps) {
  const { images } = momentOf(run, playhead.value);
  const cameras = Object.entries(images);
  if (cameras.length === 0) return null;
  return (
    <div class="compare-cameras">
      {cameras.map(([camera, image]) => (
        <figure key={camera}>
          <img src={`data:image/jpeg;base64,${image}`} alt={`${name}: camera ${camera}`} />
          <figcaption>{camera}</figcaption>
        </figure>
      ))}
    </div>
  );
}
