// The run view: one scene, one episode, everything around it.

import { useSignal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { ActionPlots } from "../panels/actionPlots";
import { Cameras } from "../panels/cameras";
import { ContactList } from "../panels/contactList";
import { CriteriaLights } from "../panels/criteriaLights";
import { Hud } from "../panels/hud";
import { LatencyPlot } from "../panels/latencyPlot";
import { Notices } from "../panels/notices";
import { NudgePad, Objects } from "../panels/nudgePad";
import { OptionsPanel } from "../panels/optionsPanel";
import { SceneView } from "../panels/sceneView";
import { ServerHealth } from "../panels/serverHealth";
import { TaskBar } from "../panels/taskBar";
import { scrubByAction, Timeline } from "../panels/timeline";
import { useShortcuts } from "../ui/shortcuts";
import { drive } from "./clock";
import { Moment } from "./moment";
import type { RunDesk } from "./runDesk";
import type { SceneView as View } from "./sceneView";

export function RunView({ desk, view }: { desk: RunDesk; view: View }) {
  const moment = useMemo(() => new Moment(desk.run, desk.glance.start), [desk]);
  useEffect(() => drive(desk.run.playback), [desk]);
  useShortcuts(shortcuts(desk, moment));
  const cameras = desk.connection.info.value?.policy?.cameras?.map(({ name }) => name) ?? [];
  return (
    <DropTarget desk={desk}>
      <section class="scene" aria-label="Scene and task">
        <SceneView desk={desk} moment={moment} view={view} />
        {desk.scene.isLoading.value && <p class="scene-loading">loading the scene…</p>}
        <Hud desk={desk} moment={moment} view={view} />
        <Notices desk={desk} />
        <Hint desk={desk} view={view} />
        <NudgePad view={view} />
        <TaskBar desk={desk} />
      </section>
      <aside class="side" aria-label="Episode">
        <Cameras moment={moment} names={cameras} />
        <CriteriaLights desk={desk} moment={moment} />
        <ActionPlots moment={moment} />
        <LatencyPlot moment={moment} />
        <ContactList moment={moment} />
        <OptionsPanel desk={desk} view={view} />
        <Objects view={view} />
        <ServerHealth connection={desk.connection} />
      </aside>
      <Timeline desk={desk} moment={moment} />
    </DropTarget>
  );
}

/** What a stranger would not guess; gone once something was done. */
function Hint({ desk, view }: { desk: RunDesk; view: View }) {
  const isNew = desk.run.status.value === "idle" && Object.keys(desk.moved.value).length === 0;
  if (!isNew || view.selected.value !== null || view.freeBodies.value.length === 0) return null;
  return (
    <p class="scene-hint">
      {matchMedia("(pointer: coarse)").matches
        ? "tap an object to move it"
        : "drag an object to move it, anywhere else to turn the view"}
    </p>
  );
}

function shortcuts(desk: RunDesk, moment: Moment) {
  const { run } = desk;
  const { playback } = run;
  return {
    Enter: () => void desk.submit(),
    Escape: () => void desk.stop(),
    " ": () => {
      if (run.status.value === "paused") void run.resume();
      else if (run.isActive.value) void run.pause();
      else if (playback.isMoving.value) playback.pause();
      else playback.play();
    },
    ArrowLeft: () => scrubByAction(desk, moment, -1),
    ArrowRight: () => scrubByAction(desk, moment, 1),
  };
}

/** The run view's frame; an MJCF or a zip that is dropped on it becomes the scene. */
function DropTarget({ desk, children }: { desk: RunDesk; children: preact.ComponentChildren }) {
  const isOver = useSignal(false);
  const over = (value: boolean) => (event: DragEvent) => {
    event.preventDefault();
    isOver.value = value;
  };
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: dropping is a shortcut for the button "Open scene…".
    <div
      class={isOver.value ? "run-view drop" : "run-view"}
      onDragOver={over(true)}
      onDragLeave={over(false)}
      onDrop={(event) => {
        over(false)(event);
        const [file] = event.dataTransfer?.files ?? [];
        if (file) void desk.openFile(file);
      }}
    >
      {children}
    </div>
  );
}
