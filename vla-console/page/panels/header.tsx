// The page's head: which view, which server and policy, which scene, and the theme.

import { type Signal, useSignal } from "@preact/signals";
import { logout, names } from "../api/login";
import type { Server } from "../api/server";
import type { ServerEntry } from "../api/types";
import type { Connection } from "../episode/connection";
import type { RunDesk } from "../episode/runDesk";
import { Button } from "../ui/button";
import { Chip } from "../ui/chip";
import { Dialog } from "../ui/dialog";
import { MoreIcon, ThemeIcon } from "../ui/icons";
import { TabList } from "../ui/tabs";
import { toggleTheme } from "../ui/theme";
import { SceneMenu } from "./sceneMenu";

export type View = "run" | "compare" | "sessions";

const VIEWS: readonly (readonly [View, string])[] = [
  ["run", "Run"],
  ["compare", "Compare"],
  ["sessions", "Sessions"],
];

interface Props {
  view: Signal<View>;
  servers: Server[];
  /** null until the page knows its servers. */
  desk: RunDesk | null;
  onServer(server: Server): void;
}

export function Header({ view, servers, desk, onServer }: Props) {
  const isMenuOpen = useSignal(false);
  const isRun = view.value === "run" && desk !== null;
  return (
    <header class="top">
      <h1>VLA console</h1>
      <TabList label="Views" class="views" tabs={VIEWS} chosen={view} />
      {isRun && <ServerChips desk={desk} servers={servers} onServer={onServer} />}
      <span class="space" />
      {isRun && (
        <div class="scene-menu">
          <SceneMenu desk={desk} />
        </div>
      )}
      {servers.map(({ entry }) => (
        <LogoutButton key={entry.base} entry={entry} />
      ))}
      <span class="theme">
        <Button label="Theme" icon={<ThemeIcon />} iconOnly onClick={toggleTheme} />
      </span>
      <span class="narrow-only">
        <Button
          label="More"
          icon={<MoreIcon />}
          iconOnly
          onClick={() => {
            isMenuOpen.value = true;
          }}
        />
      </span>
      {isMenuOpen.value && (
        <Dialog
          title="More"
          onClose={() => {
            isMenuOpen.value = false;
          }}
        >
          <div class="choices">
            {isRun && <SceneMenu desk={desk} />}
            <Button label="Dark or light" icon={<ThemeIcon />} onClick={toggleTheme} />
            <div>{desk !== null && <Facts connection={desk.connection} />}</div>
          </div>
        </Dialog>
      )}
    </header>
  );
}

function LogoutButton({ entry }: { entry: ServerEntry }) {
  const name = names.value[entry.base];
  return name === undefined ? null : (
    <Button label={`Log out ${name}`} kind="quiet" onClick={() => void logout(entry)} />
  );
}

function ServerChips({
  desk,
  servers,
  onServer,
}: {
  desk: RunDesk;
  servers: Server[];
  onServer(server: Server): void;
}) {
  const { connection } = desk;
  return (
    <div class="chips">
      {servers.length > 1 ? (
        <select
          class="server"
          aria-label="Server"
          value={desk.server.entry.base}
          onChange={({ currentTarget }) => {
            const server = servers.find(({ entry }) => entry.base === currentTarget.value);
            if (server) onServer(server);
          }}
        >
          {servers.map(({ name, entry }) => (
            <option key={entry.base} value={entry.base}>
              {name}
            </option>
          ))}
        </select>
      ) : (
        <Chip data-testid="model">{connection.info.value?.model ?? desk.server.name}</Chip>
      )}
      <Facts connection={connection} />
      <ConnectionChip connection={connection} />
    </div>
  );
}

function Facts({ connection }: { connection: Connection }) {
  const policy = connection.info.value?.policy;
  if (!policy) return null;
  return (
    <Chip data-testid="policy">
      {policy.platform} · horizon {policy.horizon}
    </Chip>
  );
}

function ConnectionChip({ connection }: { connection: Connection }) {
  const { isLost, info } = connection;
  if (isLost.value) {
    return (
      <Chip tone="bad" data-testid="connection">
        offline
      </Chip>
    );
  }
  const status = info.value?.model_status;
  return (
    <Chip tone={status === "loaded" ? "good" : status === "broken" ? "bad" : "warn"} data-testid="connection">
      {status === "loaded" ? "connected" : status === "broken" ? "no model" : "loading"}
    </Chip>
  );
}
