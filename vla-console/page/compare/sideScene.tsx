// One side's scene: in 3-D, or what the policy's cameras see.

import type { ReadonlySignal } from "@preact/signals";
import { useSignalEffect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { Server } from "../api/server";
import type { EpisodeRun } from "../episode/episodeRun";
import { createViewer } from "../scene/threeViewer";
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
  const viewer = useRef<Viewer | null>(null);
  const isLoaded = useRef(false);
  const show = () => {
    const { poses } = momentOf(run, playhead.value);
    const bodies = poseBodies(run.start.value);
    if (isLoaded.current && poses !== null) viewer.current?.setPoses(bodies, poses);
  };
  useEffect(() => {
    if (box.current === null) return;
    const made = createViewer(box.current, { theme: theme.peek(), quality, onSelect() {}, onMove() {} });
    viewer.current = made;
    return () => {
      viewer.current = null;
      made.dispose();
    };
  }, [quality]);
  useEffect(() => {
    let isCurrent = true;
    isLoaded.current = false;
    const load = async () => {
      const { glb } = await server.geometry({ xml: await server.sceneXml(scene) }, { robot });
      if (!isCurrent) return;
      await viewer.current?.load(glb);
      isLoaded.current = isCurrent;
      show();
    };
    load().catch((error) => isCurrent && onError(error));
    return () => {
      isCurrent = false;
    };
  }, [server, scene, robot, quality]);
  useSignalEffect(() => viewer.current?.setTheme(theme.value));
  useSignalEffect(show);
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
