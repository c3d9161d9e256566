// Runs the page's unit tests (page/**/*.test.ts) with Node's own test runner, each bundled by esbuild first.
import { spawnSync } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";

const page = fileURLToPath(new URL("page/", import.meta.url));
const entryPoints = (await readdir(page, { recursive: true }))
  .filter((name) => name.endsWith(".test.ts"))
  .map((name) => join(page, name));
const outdir = await mkdtemp(join(tmpdir(), "vla-console-"));
try {
  await esbuild.build({
    entryPoints,
    outdir,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    format: "esm",
    platform: "node",
    logLevel: "warning",
  });
  const files = (await readdir(outdir, { recursive: true }))
    .filter((name) => name.endsWith(".mjs"))
    .map((name) => join(outdir, name));
  process.exitCode = spawnSync(process.execPath, ["--test", ...files], { stdio: "inherit" }).status ?? 1;
} finally {
  await rm(outdir, { recursive: true });
}
