"""How long a stranger takes from a clone to a lifted cube in the browser, by the README alone: git clone, make demo.

    cd vla-console && uv run python ../benchmarks/first_minutes.py [--warm] [--without-node] [--python PYTHON]

The committed state of this repository is cloned into a temporary folder, and `make demo` is run there in a terminal. A
script that stands for the visitor's browser gets the address, and a headless Chromium shows it. The caches
of uv, pip, npm and compiled programs are empty, or with --warm the user's own. Prints a row of Markdown.
"""

import argparse
import os
import pty
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from browser import VIEWPORT, new_browser
from playwright.sync_api import expect, sync_playwright

ROOT = Path(__file__).parents[1]
CACHES = ("UV_CACHE_DIR", "PIP_CACHE_DIR", "npm_config_cache", "VLA_CACHE_DIR")
NODE = ("node", "nodejs", "npm", "npx", "corepack")
PATIENCE_S = 900.0
CTRL_C = b"\x03"


class Terminal:
    """A program in a terminal of its own; all that it prints is shown, too."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]):
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.chdir(folder)
            os.execvpe(command[0], command, environment)
        threading.Thread(target=self._show, daemon=True).start()

    def _show(self) -> None:
        while select.select([self._terminal], [], []):
            try:
                printed = os.read(self._terminal, 4096)
            except OSError:  # the program has ended
                return
            sys.stderr.buffer.write(printed)
            sys.stderr.flush()

    def end(self) -> None:
        """Press Ctrl-C, and wait for the end."""
        os.write(self._terminal, CTRL_C)
        os.waitpid(self._pid, 0)


def main() -> None:
    """Measure once and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--warm", action="store_true", help="with the caches of whoever runs this")
    parser.add_argument("--without-node", action="store_true", help="on a PATH that has no Node")
    parser.add_argument("--python", help="the Python that make takes; by default the one it finds")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        print_row(arguments, first_minutes(Path(name), arguments))


def print_row(arguments: argparse.Namespace, times: dict[str, float]) -> None:
    """Print in which case this was, and when each thing had happened [s]."""
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}\n")
    print(f"| caches | Node | Python | {' | '.join(times)} |\n|---|---|---|{'---|' * len(times)}")
    case = ("warm" if arguments.warm else "empty", "no" if arguments.without_node else "yes", arguments.python or "")
    print(f"| {' | '.join([*case, *(f'{seconds:.0f}' for seconds in times.values())])} |", flush=True)


def first_minutes(folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Return how many seconds after the start each thing had happened."""
    times: dict[str, float] = {}
    started = time.perf_counter()

    def note(what: str) -> None:
        times[what] = time.perf_counter() - started

    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder / "clone")], check=True)
    note("cloned")
    command = ["make", "demo", *([f"PYTHON={arguments.python}"] if arguments.python else [])]
    with ExitStack() as stack:
        demo = Terminal(command, folder / "clone", environment_of(folder, arguments))
        stack.callback(demo.end)
        address = address_given_to_the_browser(folder)
        note("browser asked for")
        browser = stack.enter_context(new_browser(stack.enter_context(sync_playwright())))
        page = browser.new_page(viewport=VIEWPORT)
        page.goto(address)
        page.wait_for_function("() => window.__console?.bodies.red_cube", timeout=1e3 * PATIENCE_S)
        note("scene shown")
        expect(page.get_by_test_id("state")).to_have_text("success", timeout=1e3 * PATIENCE_S)
        page.wait_for_function("() => window.__console.bodies.red_cube?.[2] > 0.07", timeout=1e3 * PATIENCE_S)
        note("cube lifted")
    return times


def environment_of(folder: Path, arguments: argparse.Namespace) -> dict[str, str]:
    """Return the stranger's environment: no virtual one, perhaps no caches or no Node, and a browser that notes."""
    browser = folder / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {folder}/noted && mv {folder}/noted {folder}/address\n')
    browser.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("VIRTUAL_ENV", "UV"))}
    environment |= {"BROWSER": str(browser), "DISPLAY": environment.get("DISPLAY", ":0")}
    if not arguments.warm:
        environment |= {name: str(folder / "caches" / name) for name in CACHES}
    # Without what `uv run` has put before it.
    path = [each for each in environment["PATH"].split(os.pathsep) if each != str(Path(sys.executable).parent)]
    environment["PATH"] = os.pathsep.join(without_node(path, folder) if arguments.without_node else path)
    return environment


def without_node(path: list[str], folder: Path) -> list[str]:
    """Return a PATH with a copy, made of links, of each folder that has Node in it."""
    copied = []
    for number, each in enumerate(map(Path, path)):
        if any((each / name).exists() for name in NODE):
            links = folder / f"path{number}"
            links.mkdir()
            for program in each.iterdir():
                if program.name not in NODE:
                    (links / program.name).symlink_to(program)
            each = links
        copied.append(str(each))
    assert shutil.which("node", path=os.pathsep.join(copied)) is None
    return copied


def address_given_to_the_browser(folder: Path) -> str:
    """Wait until the demo opens the browser, and return with which address."""
    deadline = time.perf_counter() + PATIENCE_S
    while not (folder / "address").exists():
        if time.perf_counter() > deadline:
            sys.exit(f"no browser was opened within {PATIENCE_S:.0f} s")
        time.sleep(0.05)
    return (folder / "address").read_text().strip()


if __name__ == "__main__":
    main()
