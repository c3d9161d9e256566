// Two scenes beside each other, each with what is known of its side.

import type { Server } from "../api/server";
import type { EpisodeRun } from "../episode/episodeRun";
import { STATE_TONES } from "../episode/stateTones";
import { Chip } from "../ui/chip";
import { momentOf, type PairRun } from "./pairRun";
import { in3d, quality } from "./sceneForm";
import type { SideName } from "./side";
import { CameraStrip, Scene3d } from "./sideScene";

interface StageSide {
  side: SideName;
  /** What is written over the view. */
  title: string;
  server: Server;
  /** The page shows several servers, so the view says which this is. */
  namesServer?: boolean;
}

interface Props {
  pair: PairRun;
  sides: StageSide[];
  scene: string;
  robot: string;
  /** How a side ended and how long it took stays hidden. */
  isBlind?: boolean;
  onError(error: unknown): void;
}

export function PairStage({ pair, sides, scene, robot, isBlind = false, onError }: Props) {
  const { playhead } = pair.playback;
  return (
    <div class={in3d.value ? "compare-stage" : "compare-stage cameras"}>
      {sides.map(({ side, title, server, namesServer }) => {
        const run = pair.runs[side];
        const view = { name: title, run, playhead };
        return (
          <section key={side} class="compare-view" aria-label={title}>
            <div class="compare-hud">
              <Chip solid>
                <b>{title}</b>
              </Chip>
              {namesServer && <Chip solid>{server.name}</Chip>}
              {!isBlind && <SideChips pair={pair} run={run} />}
            </div>
            {in3d.value && (
              <Scene3d {...view} server={server} scene={scene} robot={robot} quality={quality()} onError={onError} />
            )}
            <CameraStrip {...view} />
            {!in3d.value && run.status.value === "idle" && (
              <p class="compare-empty muted">what the cameras see, once the episode has begun</p>
            )}
            {!isBlind && run.error.value && (
              <div class="alert compare-refusal" role="alert">
                {run.error.value.message}
                <p>{run.error.value.hint}</p>
              </div>
            )}
          </section>
        );
      })}
    </div>
  );
}

/** The state chips; the end is told when the playhead reaches it. */
function SideChips({ pair, run }: { pair: PairRun; run: EpisodeRun }) {
  const status = run.status.value;
  if (status === "idle") return null;
  const playhead = pair.playback.playhead.value;
  const moment = momentOf(run, playhead);
  const isBehind = playhead < run.playback.duration.value - 1e-6;
  const isReplay = isBehind && (run.isOver.value || !pair.playback.isLive.value);
  const isLost = run.isActive.value && run.step.value > 0 && !run.isConnected.value;
  const asked = run.steps.value.slice(0, moment.index + 1).findLast((step) => step.timing_ms.predict > 0);
  return (
    <>
      <span role="status">
        <Chip solid tone={isReplay ? "accent" : STATE_TONES[status]}>
          {isReplay ? "replay" : status.replace("_", " ")}
        </Chip>
      </span>
      {isLost && (
        <Chip solid tone="bad">
          connection lost
        </Chip>
      )}
      <Chip solid>{moment.time.toFixed(1)} s</Chip>
      <Chip solid>step {moment.index + 1}</Chip>
      {asked && <Chip solid>predict {asked.timing_ms.predict.toFixed(0)} ms</Chip>}
    </>
  );
}
