// The scene's free objects: select one, and move it by small steps, without a mouse.

import type { Vec3 } from "../api/types";
import type { SceneView } from "../episode/sceneView";
import { Button } from "../ui/button";
import { CloseIcon } from "../ui/icons";
import { Panel } from "../ui/panel";

const STEP_M = 0.01;

const NUDGES: [string, Vec3][] = [
  ["+x", [STEP_M, 0, 0]],
  ["−x", [-STEP_M, 0, 0]],
  ["+y", [0, STEP_M, 0]],
  ["−y", [0, -STEP_M, 0]],
  ["+z", [0, 0, STEP_M]],
  ["−z", [0, 0, -STEP_M]],
];

/** The buttons for the selected object; nothing where none is. */
export function NudgePad({ view }: { view: SceneView }) {
  const selected = view.selected.value;
  if (selected === null) return null;
  return (
    <div class="nudge-pad" role="toolbar" aria-label="Move the object by 1 cm">
      <span>{selected}</span>
      {NUDGES.map(([label, delta]) => (
        <Button key={label} label={label} onClick={() => view.viewer.value?.nudge(delta)} />
      ))}
      <Button label="Deselect" icon={<CloseIcon />} kind="quiet" iconOnly onClick={() => view.select(null)} />
    </div>
  );
}

export function Objects({ view }: { view: SceneView }) {
  return (
    <Panel title="Objects">
      <ul class="facts" aria-label="Objects">
        {view.freeBodies.value.map(({ name }) => (
          <li key={name}>
            <button
              type="button"
              class="link"
              aria-pressed={view.selected.value === name}
              onClick={() => view.select(view.selected.value === name ? null : name)}
            >
              {name}
            </button>
          </li>
        ))}
        {view.freeBodies.value.length === 0 && <li class="muted">none that can be moved</li>}
      </ul>
    </Panel>
  );
}
