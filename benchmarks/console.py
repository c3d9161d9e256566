"""What the console costs: a robot at 5 Hz beside a page, the page's size, and how soon it is there.

    cd vla-servers/octo-small && uv run python ../../benchmarks/console.py [--seconds 60]

A robot asks the bundled policy every 0.2 s through `vla_client`, without a page, beside an idle page, and beside a page
that runs one episode after another, in a headless Chromium that draws with the processor. A step is missed if its
action is not there when the next image is due. Prints Markdown.
"""

import argparse
import multiprocessing
import os
import statistics
import time
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from browser import VIEWPORT, new_browser
from load import PERIOD_S, Run, drive
from playwright.sync_api import Page, Playwright, sync_playwright
from server import Server, add_figures, machine, running

from vla_console import static_dir

MODEL = "bundled://tabletop"
INSTRUCTION = "pick up the red cube"
PAGES = ("none", "idle", "episodes")
PATIENCE_MS = 60_000
# Notes in the page when each of these is first true [ms since the page was asked for].
MARKS = """
window.__marks = {};
let empty = 0;
const marks = {
  connected: () => document.querySelector("[data-testid=connection]")?.textContent === "connected",
  drawn: () => {
    const { bodies, framesDrawn } = window.__console ?? { bodies: {}, framesDrawn: 0 };
    if (!bodies.red_cube) empty = framesDrawn;
    return framesDrawn > empty;
  },
};
setInterval(() => {
  for (const [name, isTrue] of Object.entries(marks)) if (isTrue()) __marks[name] ??= performance.now();
}, 10);
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) __marks[entry.name] = entry.startTime;
}).observe({ type: "paint", buffered: true });
"""
MARK_NAMES = ("first-contentful-paint", "connected", "drawn")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="how long the robot acts beside each page")
    parser.add_argument("--browsers", type=int, default=10, help="how many cold browsers open the page")
    parser.add_argument("--json", type=Path, help="add all figures to this file")
    arguments = parser.parse_args()
    print(f"{machine()}; {MODEL}.\n")
    files = print_files()
    with running(MODEL) as server, sync_playwright() as playwright:
        robots = print_robots(server, playwright, round(arguments.seconds / PERIOD_S))
        paints = print_paints(server, playwright, arguments.browsers)
    add_figures(arguments.json, "console", {"files": files, "robots": robots, "paints": paints})


def print_files() -> dict[str, list[int]]:
    """Print how large each file of the page is, and what of it travels."""
    compressed = {path.stem: path.stat().st_size for path in static_dir().glob("*.gz")}
    sizes = {name: [(static_dir() / name).stat().st_size, compressed[name]] for name in sorted(compressed)}
    sizes["all"] = [sum(each) for each in zip(*sizes.values(), strict=True)]
    print("| file | kB | kB gzipped |\n|---|---|---|")
    for name, (plain, gzipped) in sizes.items():
        print(f"| {name} | {plain / 1e3:.1f} | {gzipped / 1e3:.1f} |")
    return sizes


def print_robots(server: Server, playwright: Playwright, num_steps: int) -> list[dict[str, Any]]:
    """Print how a robot fares beside each page, and what the page received."""
    print("\n| page | steps | missed | p50 ms | p99 ms | max ms | sent late by (p99) ms ", end="")
    print("| episodes | poses per simulated s | simulated s per s | frames drawn per s | load average |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    found = []
    for kind in PAGES:
        row = {"page": kind, **beside_a_page(server, playwright, kind, num_steps)}
        found.append(row)
        cells = (f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row.values())
        print(f"| {' | '.join(cells)} |", flush=True)
    return found


def beside_a_page(server: Server, playwright: Playwright, kind: str, num_steps: int) -> dict[str, Any]:
    """Have a robot act, in a process of its own, while the page is open."""
    with ExitStack() as stack:
        robots = stack.enter_context(ProcessPoolExecutor(1, multiprocessing.get_context("spawn")))
        page = None
        if kind != "none":
            page = stack.enter_context(new_browser(playwright)).new_page(viewport=VIEWPORT)
            page.goto(server.url)
            page.wait_for_function("() => window.__console?.bodies.red_cube", timeout=PATIENCE_MS)
            page.get_by_label("Instruction").fill(INSTRUCTION)
        robot = robots.submit(drive, server.url.replace("http", "ws"), 1, num_steps)
        shown: dict[str, Any] = dict.fromkeys(SHOWN, "")
        if page and kind == "episodes":
            shown = page_runs_episodes(page, robot)
        (run,) = robot.result()
    return {**figures_of(run), **shown, "load": round(os.getloadavg()[0], 1)}


def figures_of(run: Run) -> dict[str, float]:
    """Return how many steps the robot missed, and its latencies."""
    latencies, delays = 1e3 * np.array(run.latencies), 1e3 * np.array(run.delays)
    return {
        "steps": len(latencies),
        "missed": int((latencies + delays > 1e3 * PERIOD_S).sum()),
        "p50_ms": float(np.percentile(latencies, 50)),
        "p99_ms": float(np.percentile(latencies, 99)),
        "max_ms": float(latencies.max()),
        "late_p99_ms": float(np.percentile(delays, 99)),
    }


SHOWN = ("episodes", "poses_per_simulated_s", "simulated_s_per_s", "frames_drawn_per_s")


def page_runs_episodes(page: Page, robot: Future[list[Run]]) -> dict[str, Any]:
    """Run episodes until the robot is done; return how many, and by message count what the page got and drew."""
    num_episodes, num_poses, simulated_s = 0, 0, 0.0
    started, drawn_before = time.perf_counter(), state(page)["framesDrawn"]
    while not robot.done():
        page.get_by_label("Instruction").press("Enter")
        page.wait_for_function("() => window.__console.status === 'running'", timeout=PATIENCE_MS)
        page.wait_for_function("() => !['running', 'starting'].includes(window.__console.status)", timeout=PATIENCE_MS)
        ended = state(page)
        assert ended["status"] == "success", ended
        num_episodes += 1
        num_poses += ended["posesReceived"] - 1  # the first is the start's
        simulated_s += ended["time"]
    seconds = time.perf_counter() - started
    drawn = state(page)["framesDrawn"] - drawn_before
    numbers = (num_episodes, num_poses / simulated_s, simulated_s / seconds, drawn / seconds)
    return dict(zip(SHOWN, numbers, strict=True))


def state(page: Page) -> dict[str, Any]:
    """Return what the page shows."""
    return page.evaluate("() => window.__console")


def print_paints(server: Server, playwright: Playwright, num_browsers: int) -> list[dict[str, float]]:
    """Print how soon browsers that have nothing cached paint the page, are connected, and have drawn the scene."""
    paints = []
    for _ in range(num_browsers):
        with new_browser(playwright) as browser:
            page = browser.new_page(viewport=VIEWPORT)
            page.add_init_script(MARKS)
            page.goto(server.url)
            complete = f"() => Object.keys(window.__marks).length > {len(MARK_NAMES)} && window.__marks"
            paints.append(page.wait_for_function(complete, timeout=PATIENCE_MS).json_value())
    print(f"\n| seconds, of {num_browsers} cold browsers | median | max |\n|---|---|---|")
    for name in MARK_NAMES:
        seconds = [marks[name] / 1e3 for marks in paints]
        print(f"| {name} | {statistics.median(seconds):.2f} | {max(seconds):.2f} |")
    print(f"\nLoad average {os.getloadavg()[0]:.1f}.")
    return paints


if __name__ == "__main__":
    main()
