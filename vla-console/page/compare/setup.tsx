// The fields that say what is compared: task, instruction and seed for both sides, server and execution for each.

import { Field, NumberField, SelectField } from "../ui/field";
import type { Comparison } from "./comparison";
import { PHONE } from "./sceneForm";
import { type Guard, type Mode, SIDES, type SideName } from "./side";

const FREE_TEXT = "";

/** The task and the seed; `hasFreeText` also offers an instruction of one's own. */
export function TaskFields({ comparison, hasFreeText }: { comparison: Comparison; hasFreeText: boolean }) {
  const { tasks, task, robots, robot, seed } = comparison;
  const presets = tasks.value.map(({ name, instruction }) => [name, instruction] as const);
  const chosen = task.value?.name ?? (hasFreeText ? FREE_TEXT : (tasks.value[0]?.name ?? FREE_TEXT));
  return (
    <>
      {Object.keys(robots.value).length > 1 && (
        <SelectField
          label="Robot"
          value={robot.value}
          options={Object.keys(robots.value).map((name) => [name, name] as const)}
          onChange={(name) => {
            robot.value = name;
          }}
        />
      )}
      <SelectField
        label="Task"
        value={chosen}
        options={hasFreeText ? [...presets, [FREE_TEXT, "free text, no criterion"] as const] : presets}
        onChange={(name) => comparison.choose(tasks.value.find((preset) => preset.name === name) ?? null)}
      />
      {hasFreeText && (
        <Field label="Instruction">
          <input
            type="text"
            value={comparison.instruction.value}
            maxLength={500}
            enterkeyhint="go"
            onInput={({ currentTarget }) => {
              comparison.instruction.value = currentTarget.value;
            }}
          />
        </Field>
      )}
      <NumberField
        label={hasFreeText ? "Seed" : "First seed"}
        value={seed.value}
        min={0}
        max={2 ** 31 - 1}
        onChange={(value) => {
          seed.value = value ?? 0;
        }}
      />
    </>
  );
}

/** Both sides' servers and settings, and how to get a second server onto the page. */
export function Sides({ comparison }: { comparison: Comparison }) {
  return (
    <details class="compare-settings" open={!matchMedia(PHONE).matches}>
      <summary>
        Settings of A and B <span class="muted">{comparison.settingsText.value}</span>
      </summary>
      <div class="compare-sides">
        {SIDES.map((side) => (
          <SideFields key={side} comparison={comparison} side={side} />
        ))}
        {comparison.servers.length === 1 && (
          <p class="muted compare-hint">
            This page shows one server, so two settings of it are compared: <code>vla-console URL URL</code> shows two
            servers.
          </p>
        )}
      </div>
    </details>
  );
}

const MODES: readonly (readonly [Mode, string])[] = [
  ["own", "the policy's own"],
  ["horizon", "receding"],
  ["ensemble", "ensemble"],
];
const GUARDS: readonly (readonly [Guard, string])[] = [
  ["off", "off"],
  ["warn", "warn"],
  ["clamp", "clamp"],
  ["reject", "reject"],
];

function SideFields({ comparison, side }: { comparison: Comparison; side: SideName }) {
  const settings = comparison.sides.value[side];
  const change = (fields: Partial<typeof settings>) => comparison.change(side, fields);
  return (
    <fieldset class="compare-fields" aria-label={`Side ${side}`}>
      <legend>
        <b class={`side-mark ${side}`}>{side}</b>
      </legend>
      <SelectField
        label="Server"
        value={String(settings.server)}
        options={comparison.servers.map((server, index) => [String(index), server.name] as const)}
        onChange={(index) => change({ server: Number(index) })}
      />
      <SelectField label="Mode" value={settings.mode} options={MODES} onChange={(mode) => change({ mode })} />
      {settings.mode === "horizon" && (
        <NumberField
          label="Horizon"
          value={settings.horizon}
          min={1}
          max={64}
          onChange={(horizon) => change({ horizon: horizon ?? 1 })}
        />
      )}
      {settings.mode === "ensemble" && (
        <NumberField
          label="Weight"
          value={settings.ensembleWeight}
          min={-10}
          max={10}
          step={0.1}
          onChange={(ensembleWeight) => change({ ensembleWeight: ensembleWeight ?? 0 })}
        />
      )}
      <NumberField
        label="Rate [Hz]"
        value={settings.rateHz}
        min={1}
        max={100}
        onChange={(rateHz) => change({ rateHz: rateHz ?? 5 })}
      />
      <NumberField
        label="Latency [ms]"
        value={settings.latencyMs}
        min={0}
        max={2000}
        step={10}
        onChange={(latencyMs) => change({ latencyMs: latencyMs ?? 0 })}
      />
      <SelectField label="Guard" value={settings.guard} options={GUARDS} onChange={(guard) => change({ guard })} />
    </fieldset>
  );
}
