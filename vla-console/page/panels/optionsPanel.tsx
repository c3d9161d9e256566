// How the next episode runs, and how the scene is drawn.

import type { RunDesk } from "../episode/runDesk";
import type { SceneView } from "../episode/sceneView";
import { Button } from "../ui/button";
import { CheckField, Field, NumberField, SelectField } from "../ui/field";
import { Panel } from "../ui/panel";

const MAX_SEED = 2 ** 32 - 1;

export function OptionsPanel({ desk, view }: { desk: RunDesk; view: SceneView }) {
  const options = desk.options.value;
  const set = desk.setOptions;
  const horizon = desk.connection.info.value?.policy?.horizon ?? 1;
  return (
    <Panel title="Options" folds>
      <div class="fields">
        <NumberField
          label="Seed"
          value={options.seed}
          min={0}
          max={MAX_SEED}
          placeholder="drawn"
          onChange={(seed) => set({ seed })}
        />
        <NumberField
          label="Max steps"
          value={options.maxSteps}
          min={1}
          max={1000}
          onChange={(steps) => set({ maxSteps: steps ?? 75 })}
        />
        <SeedButtons desk={desk} />
        <SelectField
          label="Execution"
          wide
          value={options.execution}
          options={[
            ["own", "the policy's own"],
            ["receding_horizon", "receding horizon"],
            ["temporal_ensemble", "temporal ensemble"],
          ]}
          onChange={(execution) => set({ execution })}
        />
        {options.execution === "temporal_ensemble" && (
          <NumberField
            label="Ensemble weight"
            value={options.ensembleWeight}
            min={-10}
            max={10}
            step={0.05}
            onChange={(weight) => set({ ensembleWeight: weight ?? 0 })}
          />
        )}
        {options.execution === "receding_horizon" && (
          <NumberField
            label="Execution horizon"
            value={options.executionHorizon}
            min={1}
            max={horizon}
            onChange={(steps) => set({ executionHorizon: steps ?? 1 })}
          />
        )}
        <NumberField
          label="Rate [Hz]"
          value={options.rateHz}
          min={1}
          max={50}
          onChange={(rate) => set({ rateHz: rate ?? 5 })}
        />
        <NumberField
          label="Latency [ms]"
          value={options.latencyMs}
          min={0}
          max={2000}
          step={10}
          onChange={(ms) => set({ latencyMs: ms ?? 0 })}
        />
        <SelectField
          label="Guard"
          value={options.guard}
          options={[
            ["off", "off"],
            ["warn", "warn"],
            ["clamp", "clamp"],
            ["reject", "reject"],
          ]}
          onChange={(guard) => set({ guard })}
        />
        <SelectField
          label="Pace"
          value={options.pace}
          options={[
            ["real_time", "real time"],
            ["fast", "fast"],
          ]}
          onChange={(pace) => {
            set({ pace });
            if (desk.run.isActive.value) void desk.run.change({ pace });
          }}
        />
        <SelectField
          label="Quality"
          value={view.quality.value}
          options={[
            ["auto", "auto"],
            ["high", "high"],
            ["low", "low"],
          ]}
          onChange={(quality) => {
            view.quality.value = quality;
          }}
        />
        {desk.scene.file.value !== null && (
          <Field label="Robot" wide>
            <input
              type="text"
              placeholder="the scene's only arm"
              title="where the scene has several arms: the name or the end effector of one"
              value={desk.robot.value}
              onChange={({ currentTarget }) => {
                desk.robot.value = currentTarget.value.trim();
              }}
            />
          </Field>
        )}
        <CheckField label="Predicted path" checked={options.showsPath} onChange={(showsPath) => set({ showsPath })} />
        <CheckField label="Ghost" checked={options.showsGhost} onChange={(showsGhost) => set({ showsGhost })} />
      </div>
    </Panel>
  );
}

function SeedButtons({ desk }: { desk: RunDesk }) {
  const seed = desk.run.start.value?.seed;
  return (
    <div class="wide row">
      <Button
        label={seed === undefined ? "Again with this seed" : `Again with seed ${seed}`}
        disabled={seed === undefined || desk.run.isActive.value}
        onClick={() => {
          desk.setOptions({ seed });
          void desk.begin();
        }}
      />
      <Button label="New seed" onClick={() => desk.setOptions({ seed: Math.floor(Math.random() * 10_000) })} />
    </div>
  );
}
