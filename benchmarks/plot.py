"""Draw what `make bench` measured: requests beside the reference, and latency over the number of robots.

cd vla-servers/octo-small && uv run python ../../benchmarks/plot.py ../../bench/figures.json performance.svg
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

MODEL = "bundled://tabletop"


def main() -> None:
    """Read the file of all figures, and draw two of them side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", type=Path, help="the file that `make bench` writes")
    parser.add_argument("drawing", type=Path, help="where to, .svg or .png")
    arguments = parser.parse_args()
    measured = json.loads(arguments.figures.read_text())
    inference, load = measured["inference"], measured[f"load {MODEL}"]
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "vla-servers"})  # the same figures make the same file
    figure = Figure(figsize=(11, 4), layout="constrained")
    beside, over = figure.subplots(1, 2)
    draw_cases(beside, inference["figures"]["cases"])
    draw_robots(over, load["figures"])
    beside.set_title(inference["machine"], fontsize=7)
    over.set_title(f"{load['machine']}; {MODEL}", fontsize=7)
    figure.savefig(arguments.drawing, metadata={"Date": None} if arguments.drawing.suffix == ".svg" else None)


def draw_cases(axes: Axes, cases: list[dict[str, Any]]) -> None:
    """Draw the medians of every case, the reference's where it was measured."""
    places = np.arange(len(cases))
    for kind, label, shift in (("reference_ms", "reference", -0.2), ("request_ms", "here", 0.2)):
        medians = [float(np.median(case[kind])) if case[kind] else 0.0 for case in cases]
        if any(medians):
            axes.bar_label(axes.bar(places + shift, medians, 0.38, label=label), fmt="%.0f", fontsize=8)
    axes.set(ylabel="one request [ms]", xticks=places)
    axes.set_xticklabels([case["case"].replace(", ", "\n") for case in cases], fontsize=8)
    axes.legend()


def draw_robots(axes: Axes, rows: list[dict[str, Any]]) -> None:
    """Draw median and tail of the latency over the number of robots."""
    robots = [row["robots"] for row in rows]
    for kind, label in (("p99_ms", "99 of 100 answers within"), ("p50_ms", "half of the answers within")):
        axes.plot(robots, [row[kind] for row in rows], marker="o", label=label)
    axes.axhline(200, color="gray", linewidth=0.8, label="a step at 5 Hz")
    axes.set(xlabel="robots at 5 Hz", ylabel="ms", xscale="log", yscale="log", xticks=robots)
    axes.set_xticklabels(robots)
    axes.minorticks_off()
    axes.grid(visible=True, alpha=0.3)
    axes.legend()


if __name__ == "__main__":
    main()
