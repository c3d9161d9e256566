// Bundles the page into static files: `node build.mjs`, or `--watch` while working on it.
import { cp, mkdir, rm } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";

const page = new URL("page/", import.meta.url);
const output = new URL("src/vla_console/static/", import.meta.url);
const options = {
  entryPoints: { console: fileURLToPath(new URL("main.tsx", page)) },
  outdir: fileURLToPath(output),
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none",
  logLevel: "warning",
};

await rm(output, { recursive: true, force: true });
await mkdir(output, { recursive: true });
await cp(new URL("index.html", page), new URL("index.html", output));
if (process.argv.includes("--watch")) {
  await (await esbuild.context(options)).watch();
} else {
  await esbuild.build(options);
}
