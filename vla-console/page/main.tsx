import { signal } from "@preact/signals";
import { render } from "preact";
import { knownServers, type Server } from "./api/server";
import { App } from "./app";
import { applyTheme } from "./ui/theme";
import "./ui/theme.css";
import "./ui/controls.css";
import "./ui/layout.css";

const RETRY_MS = 1000;

const servers = signal<Server[]>([]);
const error = signal("");
const root = document.getElementById("app");
if (root === null) throw new Error("index.html has no #app");
applyTheme();
render(<App servers={servers} error={error} />, root);
while (servers.value.length === 0) {
  try {
    servers.value = await knownServers();
    error.value = "";
  } catch {
    error.value =
      "the server does not say which policies it has; is it still running? The page asks again every second";
  }
  await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
}
