// Success criteria as lights: which hold at the playhead, and the value of each.

import { describe, unitOf } from "../episode/criteria";
import type { Moment } from "../episode/moment";
import type { RunDesk } from "../episode/runDesk";
import { Panel } from "../ui/panel";

export function CriteriaLights({ desk, moment }: { desk: RunDesk; moment: Moment }) {
  const values = moment.criteria.value;
  const criteria = desk.run.start.value === null ? desk.success.value : desk.judgedBy.value;
  const length = Math.max(criteria.length, values.length);
  return (
    <Panel title="Success when">
      {length === 0 && <p class="muted">no criterion: the episode runs until it is stopped or its steps are used up</p>}
      <ul class="lights" aria-label="Criteria">
        {Array.from({ length }, (_, index) => {
          const [success, criterion] = [criteria[index], values[index]];
          const words = success ? describe(success) : `criterion ${index + 1}`;
          const state = criterion === undefined ? "unknown" : criterion.holds ? "holds" : "not yet";
          return (
            <li key={words} class={`light ${state.replace(" ", "-")}`}>
              <i role="img" aria-label={state} />
              <span>{words}</span>
              <b class="number">{criterion && `${fixed(criterion.value)} ${success ? unitOf(success) : ""}`}</b>
            </li>
          );
        })}
      </ul>
    </Panel>
  );
}

/** Three digits, and no minus before zero. */
function fixed(value: number): string {
  return (Math.round(value * 1e3) / 1e3 + 0).toFixed(3);
}
