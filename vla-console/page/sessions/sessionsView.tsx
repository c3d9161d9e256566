// Robots' sessions that are live now: a list, and the one that is watched. Nothing here changes a session.

import { useComputed, useSignal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import type { Server } from "../api/server";
import { Button } from "../ui/button";
import { Chip } from "../ui/chip";
import { useShortcuts } from "../ui/shortcuts";
import { SessionDetail } from "./sessionDetail";
import { SessionList, type SessionRow } from "./sessionList";
import "./sessions.css";

export function SessionsView({ servers }: { servers: Server[] }) {
  const list = useMemo(() => new SessionList(servers), [servers]);
  useEffect(() => list.watch(), [list]);
  const watchedKey = useSignal<string | null>(null);
  const watched = useComputed(() => list.rows.value.find((row) => row.key === watchedKey.value));
  const move = (by: number) => {
    const rows = list.rows.value;
    const index = rows.findIndex((row) => row.key === watchedKey.value) + by;
    const next = rows[Math.max(0, Math.min(rows.length - 1, index))];
    if (next) watchedKey.value = next.key;
  };
  const close = () => {
    watchedKey.value = null;
  };
  useShortcuts({ ArrowDown: () => move(1), ArrowUp: () => move(-1), Escape: close });
  const row = watched.value;
  return (
    <section class={row ? "sessions-page watching" : "sessions-page"} aria-label="Sessions">
      <div class="session-list">
        <header>
          <h1>Live sessions</h1>
          <Chip>{countText(list.rows.value)}</Chip>
        </header>
        {list.errors.value.map((text) => (
          <p key={text} class="alert" role="alert">
            {text}
          </p>
        ))}
        {list.isLoaded.value && list.rows.value.length === 0 && <NoSessions />}
        <ul aria-label="Sessions of robots">
          {list.rows.value.map((item) => (
            <li key={item.key}>
              <SessionCard
                row={item}
                showsServer={servers.length > 1}
                isWatched={item === row}
                onOpen={() => {
                  watchedKey.value = item.key;
                }}
              />
            </li>
          ))}
        </ul>
      </div>
      {row && (
        <div class="session-watched">
          <Button label="All sessions" kind="plain" class="button session-back" onClick={close} />
          <SessionDetail key={row.key} row={row} />
        </div>
      )}
      {!row && list.rows.value.length > 0 && (
        <p class="session-watched muted session-hint">Choose a session to see its cameras, actions and latency.</p>
      )}
    </section>
  );
}

interface CardProps {
  row: SessionRow;
  showsServer: boolean;
  isWatched: boolean;
  onOpen(): void;
}

function SessionCard({ row, showsServer, isWatched, onOpen }: CardProps) {
  const { session } = row;
  const facts = [
    session.client,
    session.protocol,
    showsServer ? row.server.name : undefined,
    `step ${session.step}`,
    row.isEnded || !session.steps_per_s ? undefined : `${session.steps_per_s.toFixed(1)} steps/s`,
    typeof session.last_ms === "number" ? `${session.last_ms.toFixed(0)} ms` : undefined,
  ];
  return (
    <button type="button" class="session-card" aria-current={isWatched ? "true" : undefined} onClick={onOpen}>
      <span class="session-title">
        <b>{session.id}</b>
        <SessionState row={row} />
      </span>
      <span class="session-instruction">{session.instruction ?? "no instruction"}</span>
      <span class="muted number">{facts.filter((fact) => fact !== undefined).join(" · ")}</span>
    </button>
  );
}

function SessionState({ row }: { row: SessionRow }) {
  if (row.isEnded) return <Chip>ended</Chip>;
  if (row.session.is_waiting && row.session.idle_s > WAITING_S) return <Chip tone="accent">waiting</Chip>;
  if (row.session.idle_s > IDLE_S) return <Chip tone="warn">idle {row.session.idle_s.toFixed(0)} s</Chip>;
  return <Chip tone="good">live</Chip>;
}

function NoSessions() {
  return (
    <div class="session-empty">
      <p>No robot is connected now. A few lines of Python begin a session:</p>
      <pre>
        <code>{`from vla_client import Policy

with Policy("${serverAddress()}") as policy:
    action = policy.act({"primary": image}, "pick up the red cube")`}</code>
      </pre>
    </div>
  );
}

/** A request that waits this long for the policy is worth a word; each step waits a little. */
const WAITING_S = 0.5;
const IDLE_S = 3;

function serverAddress(): string {
  return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}`;
}

function countText(rows: SessionRow[]): string {
  const num = rows.filter((row) => !row.isEnded).length;
  return num === 1 ? "1 live" : `${num} live`;
}
