"""Images of a run, drawn from its metrics."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

Row = Mapping[str, Any]


def plot_run(rows: Iterable[Row], path: Path) -> None:
    """Draw the losses, and success where episodes were played, over the steps; `path` says which form by its ending."""
    rows = list(rows)
    has_success = any("success" in row for row in rows)
    figure = Figure(figsize=(8, 7 if has_success else 4), layout="constrained")
    axes = figure.subplots(1 + has_success, 1, sharex=True, squeeze=False)[:, 0]
    for name in ("loss", "validation_loss"):
        points = [(row["step"], row[name]) for row in rows if name in row]
        if points:
            axes[0].plot(*zip(*points, strict=True), label=name.replace("_", " "), marker="." * (len(points) < 30))
    axes[0].set(ylabel="loss", yscale="log")
    axes[0].grid(visible=True, alpha=0.3)
    if axes[0].lines:
        axes[0].legend()
    if has_success:
        points = [(row["step"], 100 * row["success"]) for row in rows if "success" in row]
        axes[1].plot(*zip(*points, strict=True), marker=".")
        axes[1].set(ylabel="success [%]", ylim=(0, 100))
        axes[1].grid(visible=True, alpha=0.3)
    axes[-1].set(xlabel="step")
    figure.savefig(path)
