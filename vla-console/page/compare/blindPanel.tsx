// Blind A/B: watch two runs without knowing which is which, vote, and see which they were.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { drive } from "../episode/clock";
import { Button } from "../ui/button";
import { Field, NumberField } from "../ui/field";
import { PlayIcon } from "../ui/icons";
import { Panel } from "../ui/panel";
import { useShortcuts } from "../ui/shortcuts";
import type { Choice } from "./blind";
import type { BlindPhase, BlindTrial } from "./blindTrial";
import type { Comparison } from "./comparison";
import { PairStage } from "./pairStage";
import { Sides, TaskFields } from "./setup";
import { SceneFormField } from "./sideBySide";
import { Timeline, timelineKeys } from "./timeline";
import { Votes } from "./votes";

const SAYS: Record<BlindPhase, string> = {
  idle: "Which of the two sides is left and which is right is drawn; you vote, and then you are told.",
  preparing: "Both sides run; they are shown when both are over, so that neither's speed gives it away.",
  watching: "Watch both to the end, then vote.",
  voting: "Which did better?",
  failed: "A side could not run, so there is nothing to vote on.",
  revealed: "Your vote is kept in this browser.",
};

export function BlindPanel({ comparison }: { comparison: Comparison }) {
  const { blind } = comparison;
  const phase = blind.phase.value;
  const isHidden = phase === "preparing" || phase === "watching" || phase === "voting";
  useEffect(() => drive(blind.pair.playback), [blind]);
  const run = () => {
    if (!comparison.areAlike.value && !isHidden) void comparison.runBlind();
  };
  const next = () => {
    comparison.seed.value += 1;
    run();
  };
  useShortcuts({ ...timelineKeys(blind.pair), Enter: run, Escape: () => blind.stop() });
  return (
    <>
      <form
        class="compare-bar"
        aria-label="Blind comparison"
        onSubmit={(event) => {
          event.preventDefault();
          run();
        }}
      >
        <TaskFields comparison={comparison} hasFreeText />
        <Button
          type="submit"
          kind="primary"
          label="Run blind"
          icon={<PlayIcon />}
          disabled={comparison.areAlike.value || isHidden}
        />
        {isHidden && <Button label="Cancel" onClick={() => blind.stop()} />}
        {phase === "revealed" && <Button label="Next placement" onClick={next} />}
        <SceneFormField />
      </form>
      {!isHidden && <Sides comparison={comparison} />}
      <p class="compare-says" role="status">
        {comparison.areAlike.value ? "Both sides are the same; change a setting of one." : SAYS[phase]}
      </p>
      {phase !== "idle" && <BlindStage comparison={comparison} />}
      {phase === "voting" && <VoteForm blind={blind} />}
      {phase === "idle" && blind.votes.value.length === 0 && (
        <p class="compare-empty muted">No votes yet: run blind, watch, and vote.</p>
      )}
      <Votes votes={blind.votes.value} />
    </>
  );
}

function BlindStage({ comparison }: { comparison: Comparison }) {
  const { blind } = comparison;
  const isRevealed = blind.phase.value === "revealed" || blind.phase.value === "failed";
  const names = blind.subject.value?.names;
  const sides = blind.order.value.map((side, index) => {
    const place = index === 0 ? "Left" : "Right";
    const title = isRevealed ? `${place} was ${side}: ${names?.[side]}` : place;
    return { side, title, server: comparison.server(side) };
  });
  return (
    <>
      <PairStage
        pair={blind.pair}
        scene={blind.subject.value?.scene ?? comparison.scene.value}
        robot={comparison.robot.value}
        sides={sides}
        isBlind={!isRevealed}
        onError={comparison.fail}
      />
      <Timeline pair={blind.pair} />
    </>
  );
}

const CHOICES: readonly (readonly [Choice, string])[] = [
  ["left", "Left is better"],
  ["tie", "Tie"],
  ["right", "Right is better"],
];

function VoteForm({ blind }: { blind: BlindTrial }) {
  const left = useSignal<number | null>(null);
  const right = useSignal<number | null>(null);
  const comment = useSignal("");
  const decide = (choice: Choice) =>
    blind.decide(choice, { left: left.value, right: right.value }, comment.value.trim());
  const progress = { min: 0, max: 100, step: 5, placeholder: "optional" };
  return (
    <Panel title="Your vote">
      <div class="vote-fields">
        <NumberField
          {...progress}
          label="Progress left [%]"
          value={left.value}
          onChange={(value) => {
            left.value = value;
          }}
        />
        <NumberField
          {...progress}
          label="Progress right [%]"
          value={right.value}
          onChange={(value) => {
            right.value = value;
          }}
        />
        <Field label="Why">
          <input
            type="text"
            maxLength={500}
            placeholder="optional"
            value={comment.value}
            onInput={({ currentTarget }) => {
              comment.value = currentTarget.value;
            }}
          />
        </Field>
      </div>
      <fieldset class="vote-buttons" aria-label="Vote">
        {CHOICES.map(([choice, text]) => (
          <Button key={choice} kind="primary" label={text} onClick={() => decide(choice)} />
        ))}
      </fieldset>
    </Panel>
  );
}
