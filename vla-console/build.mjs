// Bundles the page into static files: `node build.mjs`, or `--watch` while working on it.
import { cp, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import * as esbuild from "esbuild";

const page = new URL("page/", import.meta.url);
const output = new URL("src/vla_console/static/", import.meta.url);
const options = {
  entryPoints: { console: fileURLToPath(new URL("main.tsx", page)) },
  outdir: fileURLToPath(output),
  absWorkingDir: fileURLToPath(new URL(".", import.meta.url)),
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  splitting: true,
  chunkNames: "[name]-[hash]",
  legalComments: "none",
  logLevel: "warning",
  metafile: true,
};

// The folder itself stays: uv builds again where it is missing or new.
await mkdir(output, { recursive: true });
for (const name of await readdir(output)) await rm(new URL(name, output), { recursive: true });
await cp(new URL("index.html", page), new URL("index.html", output));
if (process.argv.includes("--watch")) {
  await (await esbuild.context(options)).watch();
} else {
  const { metafile } = await esbuild.build(options);
  await writeFile(new URL("licences.txt", output), await licences(Object.keys(metafile.inputs)));
  // What travels, where the browser accepts it: compressed once, here.
  for (const name of await readdir(output)) {
    const content = await readFile(new URL(name, output));
    await writeFile(new URL(`${name}.gz`, output), gzipSync(content, { level: 9 }));
  }
}

/** Return the licence of each package that the bundle has code of. */
async function licences(inputs) {
  const folders = inputs.flatMap((path) => path.match(/^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+\//) ?? []);
  const texts = [...new Set(folders)].sort().map(async (name) => {
    const folder = new URL(name, import.meta.url);
    const { name: title, version } = JSON.parse(await readFile(new URL("package.json", folder), "utf8"));
    const file = (await readdir(folder)).find((each) => /^licen[cs]e/i.test(each));
    if (file === undefined) throw new Error(`${title} has no licence file`);
    return `${title} ${version}\n\n${(await readFile(new URL(file, folder), "utf8")).trim()}\n`;
  });
  return (await Promise.all(texts)).join(`\n${"-".repeat(80)}\n\n`);
}
