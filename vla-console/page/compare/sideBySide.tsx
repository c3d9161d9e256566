// Two runs side by side, live, on one timeline, and how far their actions are apart.

import { useComputed } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { drive } from "../episode/clock";
import { Button } from "../ui/button";
import { CheckField } from "../ui/field";
import { PlayIcon, StopIcon } from "../ui/icons";
import { Panel } from "../ui/panel";
import { Plot } from "../ui/plot";
import { useShortcuts } from "../ui/shortcuts";
import { actionDifference } from "./actionDifference";
import type { Comparison } from "./comparison";
import { type PairRun, timedActions } from "./pairRun";
import { PairStage } from "./pairStage";
import { in3d } from "./sceneForm";
import { Sides, TaskFields } from "./setup";
import { SIDES } from "./side";
import { Timeline, timelineKeys } from "./timeline";

export function SideBySide({ comparison }: { comparison: Comparison }) {
  const { pair } = comparison;
  useEffect(() => drive(pair.playback), [pair]);
  const run = () => void comparison.runPair();
  const stop = () => pair.stop();
  const namesServer = comparison.servers.length > 1;
  useShortcuts({ ...timelineKeys(pair), Enter: run, Escape: stop });
  return (
    <>
      <form
        class="compare-bar"
        aria-label="Comparison"
        onSubmit={(event) => {
          event.preventDefault();
          run();
        }}
      >
        <TaskFields comparison={comparison} hasFreeText />
        <Button type="submit" kind="primary" label="Run both" icon={<PlayIcon />} />
        <Button label="Stop both" icon={<StopIcon />} disabled={!pair.isActive.value} onClick={stop} />
        <SceneFormField />
      </form>
      <Sides comparison={comparison} />
      <PairStage
        pair={pair}
        scene={comparison.scene.value}
        robot={comparison.robot.value}
        onError={comparison.fail}
        sides={SIDES.map((side) => ({ side, title: side, server: comparison.server(side), namesServer }))}
      />
      <Differences pair={pair} />
      <Timeline pair={pair} />
    </>
  );
}

export function SceneFormField() {
  return (
    <CheckField
      label="3-D"
      checked={in3d.value}
      onChange={(checked) => {
        in3d.value = checked;
      }}
    />
  );
}

function Differences({ pair }: { pair: PairRun }) {
  const difference = useComputed(() => {
    const { A, B } = pair.runs;
    const end = Math.min(A.playback.duration.value, B.playback.duration.value);
    return actionDifference(timedActions(A), timedActions(B), end);
  });
  const { times, translation, rotation, gripper } = difference.value;
  const seek = (time: number) => pair.playback.seek(time);
  const shared = { times, cursor: pair.playback.playhead, height: 70, onSeek: seek };
  return (
    <Panel title="Difference of the actions, A to B">
      <div class="compare-plots">
        <Plot {...shared} title="Translation" unit="mm" series={[plotSeries("distance", "--z", translation)]} />
        <Plot {...shared} title="Rotation" unit="mrad" series={[plotSeries("distance", "--latency", rotation)]} />
        <Plot
          {...shared}
          title="Gripper"
          unit="1 open"
          range={[0, 1]}
          series={[plotSeries("distance", "--gripper", gripper)]}
        />
      </div>
    </Panel>
  );
}

function plotSeries(label: string, color: string, values: number[]) {
  return { label, color, values, filled: true };
}
