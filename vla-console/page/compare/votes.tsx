// The votes that this browser keeps, counted pair by pair.

import { Button } from "../ui/button";
import { SaveIcon } from "../ui/icons";
import { Panel } from "../ui/panel";
import { type Tally, tally, type Vote } from "./blind";
import { saveText } from "./download";
import { pText, SuccessBar, whole } from "./successBar";

export function Votes({ votes }: { votes: Vote[] }) {
  if (votes.length === 0) return null;
  const save = () => {
    const report = { votes, tally: tally(votes) };
    saveText("votes.json", JSON.stringify(report, null, 2), "application/json");
  };
  const count = votes.length === 1 ? "1 vote" : `${votes.length} votes`;
  return (
    <Panel
      title={`Tally of ${count}`}
      aside={<Button label="JSON" icon={<SaveIcon />} aria-label="Download votes" onClick={save} />}
    >
      {tally(votes).map((pair) => (
        <PairTally key={pair.pair.join()} tally={pair} />
      ))}
    </Panel>
  );
}

function PairTally({ tally: { pair, wins, ties, share, interval, p } }: { tally: Tally }) {
  return (
    <div class="vote-tally">
      <p class="number">
        <b>{wins[0]}</b> for {pair[0]} · <b>{wins[1]}</b> for {pair[1]} · <b>{ties}</b> {ties === 1 ? "tie" : "ties"}
      </p>
      <SuccessBar name={pair[0]} rate={share} interval={interval} />
      <p class="muted number">
        {share !== null && interval !== null
          ? `first preferred in ${whole(share)} % of the decided votes, 95 % between ${whole(interval.low)} and ${whole(interval.high)} %; `
          : ""}
        {pText(p, "ties only")}
      </p>
    </div>
  );
}
