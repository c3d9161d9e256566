import { render } from "preact";
import { knownServers } from "./api/server";
import { App } from "./app";
import "./ui/theme.css";

const root = document.getElementById("app");
if (root === null) throw new Error("index.html has no #app");
render(<App servers={await knownServers()} />, root);
