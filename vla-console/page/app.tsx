import { signal } from "@preact/signals";
import type { Server } from "./api/server";

export type View = "run" | "compare" | "sessions";

export const view = signal<View>("run");

export function App({ servers }: { servers: Server[] }) {
  return <main aria-label="VLA console">{servers[0]?.name}</main>;
}
