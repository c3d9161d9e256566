// The scene in 3-D: three.js comes after the page's first paint, and follows the episode's playhead.

import { batch, effect, untracked } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { type Moment, toWorld } from "../episode/moment";
import { touchedBodies } from "../episode/motion";
import type { RunDesk } from "../episode/runDesk";
import type { SceneView as View } from "../episode/sceneView";
import type { Viewer } from "../scene/viewer";
import { theme } from "../ui/theme";

interface Props {
  desk: RunDesk;
  moment: Moment;
  view: View;
}

export function SceneView({ desk, moment, view }: Props) {
  const box = useRef<HTMLElement>(null);
  useEffect(() => {
    const stops: (() => void)[] = [];
    let isGone = false;
    void import("../scene/threeViewer").then(({ createViewer }) => {
      if (isGone || box.current === null) return;
      const viewer = createViewer(box.current, {
        theme: theme.peek(),
        quality: view.quality.peek(),
        onSelect: (body) => {
          view.selected.value = body;
        },
        onMove: (body, position, quaternion, isFinal) => {
          if (isFinal) void desk.moveBody(body, { position, quaternion });
        },
      });
      view.viewer.value = viewer;
      stops.push(...follow(viewer, desk, moment, view), () => viewer.dispose());
    });
    return () => {
      isGone = true;
      for (const stop of stops) stop();
      batch(() => {
        view.viewer.value = view.info.value = view.selected.value = null;
      });
    };
  }, [desk, moment, view]);
  return <section ref={box} class="scene-canvas" aria-label="3-D view" />;
}

/** Keep the viewer with what the page shows; call the results to stop. */
function follow(viewer: Viewer, desk: RunDesk, moment: Moment, view: View): (() => void)[] {
  const { run, scene } = desk;
  const showPoses = () => {
    const bodies = run.start.value?.pose_bodies;
    const frame = run.playback.frameAt(run.playback.playhead.value);
    if (view.info.value !== null && bodies && frame) viewer.setPoses(bodies, frame);
  };
  return [
    effect(() => viewer.setTheme(theme.value)),
    effect(() => viewer.setQuality(view.quality.value)),
    effect(() => {
      const glb = scene.shown.value?.glb;
      if (glb !== undefined)
        void view.load(
          viewer,
          glb,
          untracked(() => desk.moved.value),
        );
    }),
    effect(() => {
      if (desk.resets.value > 0) untracked(() => view.goHome());
    }),
    effect(showPoses),
    effect(() => {
      const { robot, body_names: names } = run.start.value ?? {};
      const points = desk.options.value.showsPath && view.info.value !== null ? moment.path.value : [];
      const base = viewer.pose(names?.[robot?.base ?? -1] ?? "");
      viewer.setPath(points.length > 1 ? points.map((point) => (base ? toWorld(point, base) : point)) : null);
    }),
    effect(() => {
      const { pose_bodies: bodies } = run.start.value ?? {};
      const poses = desk.options.value.showsGhost ? moment.ahead.value.at(-1)?.poses : null;
      if (view.info.value !== null) viewer.setGhost(bodies ?? [], (bodies && poses?.frames.at(-1)) ?? null);
    }),
    effect(() => {
      const step = moment.step.value;
      if (view.info.value === null) return;
      const bodies = step?.violations.flatMap(({ what }) => what.split(" and ")) ?? [];
      const touched = step === null ? [] : [...touchedBodies(step, view.freeNames.value).keys()];
      viewer.setMarks([
        ...touched.map((body) => ({ body, kind: "contact" as const })),
        ...bodies.map((body) => ({ body, kind: "violation" as const })),
      ]);
    }),
  ];
}
