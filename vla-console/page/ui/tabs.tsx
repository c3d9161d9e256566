// A row of tabs, one of which is chosen.

import type { Signal } from "@preact/signals";

interface Props<Name extends string> {
  label: string;
  class: string;
  /** Each tab's name and text. */
  tabs: readonly (readonly [Name, string, ...unknown[]])[];
  chosen: Signal<Name>;
  /** The id of the panel that shows the chosen tab; the tabs' ids begin with it. */
  panel?: string;
}

export function TabList<Name extends string>({ label, class: className, tabs, chosen, panel }: Props<Name>) {
  return (
    <div class={className} role="tablist" aria-label={label}>
      {tabs.map(([name, text]) => (
        <button
          key={name}
          type="button"
          role="tab"
          id={panel && `${panel}-${name}`}
          aria-selected={chosen.value === name}
          aria-controls={panel}
          onClick={() => {
            chosen.value = name;
          }}
        >
          {text}
        </button>
      ))}
    </div>
  );
}
