// What the robot touches at the playhead, and which bounds it violates.

import type { Moment } from "../episode/moment";
import { describe } from "../episode/motion";
import { Panel } from "../ui/panel";

const MAX_LISTED = 6;

export function ContactList({ moment }: { moment: Moment }) {
  const step = moment.step.value;
  const rejected = moment.rejected.value;
  const { contacts, violations, scale } = step ?? { contacts: [], violations: [], scale: 1 };
  return (
    <Panel title="Contacts and violations">
      <ul class="facts" aria-label="Contacts and violations">
        {violations.map((violation) => (
          <li key={describe(violation)} class="violation">
            {describe(violation)}
          </li>
        ))}
        {rejected.map((violation) => (
          <li key={describe(violation)} class="violation">
            the guard refused the next chunk: {describe(violation)}
          </li>
        ))}
        {scale < 1 && <li class="violation">the guard cut the motion to {(100 * scale).toFixed(0)} %</li>}
        {contacts.slice(0, MAX_LISTED).map(({ bodies, force_n }) => (
          <li key={bodies.join()}>
            <span>{bodies.join(" – ")}</span>
            <b class="number">{force_n.toFixed(1)} N</b>
          </li>
        ))}
        {contacts.length + violations.length + rejected.length === 0 && <li class="muted">none</li>}
      </ul>
    </Panel>
  );
}
