// What the robot should do: an instruction with its history and presets, and the episode's controls.

import type { RunDesk } from "../episode/runDesk";
import { Button } from "../ui/button";
import { Chip } from "../ui/chip";
import { PauseIcon, PlayIcon, StepIcon, StopIcon } from "../ui/icons";

export function TaskBar({ desk }: { desk: RunDesk }) {
  const { run } = desk;
  const status = run.status.value;
  const isActive = run.isActive.value;
  const text = desk.instruction.value.trim();
  const isNew = isActive && text !== "" && text !== run.instruction.value;
  const criteria = desk.success.value.length;
  return (
    <form
      class="task-bar"
      onSubmit={(event) => {
        event.preventDefault();
        void desk.submit();
      }}
    >
      <div class="task-text">
        <input
          type="text"
          aria-label="Instruction"
          placeholder="What should the robot do?"
          autoComplete="off"
          enterKeyHint="go"
          maxLength={desk.connection.info.value?.policy?.max_instruction_chars}
          value={desk.instruction.value}
          onFocus={() => {
            desk.offersPreset = false;
          }}
          onInput={({ currentTarget }) => {
            desk.instruction.value = currentTarget.value;
          }}
          onKeyDown={(event) => recall(event, desk)}
        />
        <Presets desk={desk} />
      </div>
      <div class="task-controls">
        {desk.isWaiting.value ? (
          <Chip tone="accent" role="status">
            begins once {desk.hindrance.value}
          </Chip>
        ) : (
          <Chip tone={criteria ? "plain" : "warn"} data-testid="criterion">
            {criteria === 0 ? "no criterion" : criteria === 1 ? "1 criterion" : `${criteria} criteria`}
          </Chip>
        )}
        {isNew && <Button type="submit" label="Say it" kind="primary" />}
        {!isActive && (
          <Button
            type="submit"
            label="Run"
            icon={<PlayIcon />}
            kind="primary"
            disabled={text === "" || desk.isWaiting.value}
            title={text === "" ? "say first what the robot should do" : undefined}
          />
        )}
        {isActive && status !== "paused" && (
          <Button label="Pause" icon={<PauseIcon />} disabled={status === "starting"} onClick={() => run.pause()} />
        )}
        {status === "paused" && (
          <>
            <Button label="Go on" icon={<PlayIcon />} kind={isNew ? "plain" : "primary"} onClick={() => run.resume()} />
            <Button label="Step" icon={<StepIcon />} onClick={() => run.stepOnce()} />
          </>
        )}
        <Button
          label="Stop"
          icon={<StopIcon />}
          disabled={!isActive && !desk.isWaiting.value}
          onClick={() => void desk.stop()}
        />
      </div>
    </form>
  );
}

/** The suite's tasks for this robot, and what was said before; choosing one fills the box. */
function Presets({ desk }: { desk: RunDesk }) {
  const recent = [...desk.history.entries].reverse().slice(0, 8);
  return (
    <select
      aria-label="Tasks"
      class="presets"
      value=""
      onChange={({ currentTarget }) => {
        desk.instruction.value = currentTarget.value;
        currentTarget.value = "";
        // Enter runs it; on a phone the keyboard would cover the scene.
        if (matchMedia("(pointer: fine)").matches) currentTarget.form?.querySelector("input")?.focus();
      }}
    >
      <option value="" selected disabled hidden>
        Tasks
      </option>
      {desk.presets.value.length > 0 && (
        <optgroup label="Tabletop suite">
          {desk.presets.value.map(({ name, instruction }) => (
            <option key={name} value={instruction}>
              {instruction}
            </option>
          ))}
        </optgroup>
      )}
      {recent.length > 0 && (
        <optgroup label="Said before">
          {recent.map((text) => (
            <option key={text} value={text}>
              {text}
            </option>
          ))}
        </optgroup>
      )}
    </select>
  );
}

function recall(event: KeyboardEvent, desk: RunDesk): void {
  if (event.key !== "ArrowUp" && event.key !== "ArrowDown") return;
  event.preventDefault();
  const present = desk.instruction.value;
  desk.instruction.value = event.key === "ArrowUp" ? desk.history.older(present) : desk.history.newer(present);
}
