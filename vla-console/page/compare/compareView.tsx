// Compare two sides: live beside each other, by many trials, or blind with a vote.

import type { Server } from "../api/server";
import { TabList } from "../ui/tabs";
import { BlindPanel } from "./blindPanel";
import { Comparison, type Tab } from "./comparison";
import { SideBySide } from "./sideBySide";
import { TrialsPanel } from "./trialsPanel";
import "./compare.css";

const TABS: readonly (readonly [Tab, string, typeof SideBySide])[] = [
  ["side", "Side by side", SideBySide],
  ["trials", "Trials", TrialsPanel],
  ["blind", "Blind A/B", BlindPanel],
];

/** The comparison of a page's servers goes on while another view is shown. */
const comparisons = new WeakMap<Server[], Comparison>();

export function CompareView({ servers }: { servers: Server[] }) {
  return servers.length === 0 ? null : <Tabs comparison={comparisonOf(servers)} />;
}

function Tabs({ comparison }: { comparison: Comparison }) {
  return (
    <section class="compare-page" aria-label="Compare">
      <TabList label="How to compare" class="compare-tabs" tabs={TABS} chosen={comparison.tab} panel="compare-tab" />
      {TABS.map(
        ([tab, , TabPanel]) =>
          tab === comparison.tab.value && (
            <div
              key={tab}
              class={`compare-tab compare-${tab}`}
              id="compare-tab"
              role="tabpanel"
              aria-labelledby={`compare-tab-${tab}`}
            >
              {comparison.error.value && (
                <p class="alert" role="alert">
                  {comparison.error.value}
                </p>
              )}
              <TabPanel comparison={comparison} />
            </div>
          ),
      )}
    </section>
  );
}

function comparisonOf(servers: Server[]): Comparison {
  const comparison = comparisons.get(servers) ?? new Comparison(servers);
  comparisons.set(servers, comparison);
  return comparison;
}
