// The page's shell: it paints at once, and fills when the servers are known.

import { type Signal, signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { Server } from "./api/server";
import { CompareView } from "./compare/compareView";
import { readFragment } from "./episode/link";
import { RunDesk } from "./episode/runDesk";
import { RunView } from "./episode/runView";
import { SceneView } from "./episode/sceneView";
import { exposeState } from "./pageState";
import { Header, type View } from "./panels/header";
import { LoginDialog } from "./panels/loginDialog";
import { SessionsView } from "./sessions/sessionsView";

const view = signal<View>("run");
const desk = signal<RunDesk | null>(null);
const sceneView = new SceneView();

interface Props {
  servers: Signal<Server[]>;
  /** Why the servers are not known. */
  error: Signal<string>;
}

export function App({ servers, error }: Props) {
  const [first] = servers.value;
  useEffect(() => {
    if (first) desk.value = new RunDesk(linkedServer(servers.value) ?? first);
  }, [first, servers]);
  const shown = desk.value;
  useEffect(() => shown?.start(), [shown]);
  useEffect(() => {
    const openLink = () => {
      if (readFragment(location.hash) === null) return;
      view.value = "run";
      const server = linkedServer(servers.value) ?? desk.value?.server;
      if (server && server !== desk.value?.server) desk.value = new RunDesk(server);
      else void desk.value?.open(location.hash);
    };
    addEventListener("hashchange", openLink);
    return () => removeEventListener("hashchange", openLink);
  }, [servers]);
  useEffect(() => exposeState(view, desk, sceneView, servers), [servers]);
  return (
    <>
      <Header
        view={view}
        servers={servers.value}
        desk={shown}
        onServer={(server) => {
          desk.value = new RunDesk(server);
        }}
      />
      <LoginDialog />
      <main aria-label="VLA console" class={view.value}>
        {error.value && (
          <div class="alert" role="alert">
            {error.value}
          </div>
        )}
        {view.value === "run" && shown !== null && (
          <RunView key={shown.server.entry.base} desk={shown} view={sceneView} />
        )}
        {view.value === "compare" && <CompareView servers={servers.value} />}
        {view.value === "sessions" && <SessionsView servers={servers.value} />}
      </main>
    </>
  );
}

/** Return the server that the page's link names, if the page shows it. */
function linkedServer(servers: Server[]): Server | undefined {
  const link = readFragment(location.hash);
  return link !== null && "run" in link ? servers.find(({ entry }) => entry.base === link.run.server) : undefined;
}
