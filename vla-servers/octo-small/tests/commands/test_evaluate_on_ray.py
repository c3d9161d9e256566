"""`octo-service evaluate --engine ray`: the bundled policy's table, from a cluster of this machine for the while."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="the extra `ray`")

TRIALS = "bundled://tabletop --tasks pick_up_red --trials 3 --grounding 0 --max-steps 30"
SETTINGS = {"VLA_DEVICE": "cpu", "VLA_RENDERER": "raycast", "VLA_SCENE_WORKERS": "1"}


def evaluated(options: str, out: Path) -> tuple[str, list[tuple]]:
    """Return the tables that are printed, and the trials without times, in the order of their seeds."""
    # A process of its own: Ray forks, which JAX warns of where it is loaded.
    command = [sys.executable, "-m", "octo_service.cli", "evaluate", *shlex.split(TRIALS), "--out", str(out)]
    ended = subprocess.run(
        [*command, *shlex.split(options)], env={**os.environ, **SETTINGS}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    _, *rows = map(json.loads, out.read_text().splitlines())
    names = ("seed", "instruction", "success", "reason", "num_steps", "lifted", "moved")
    _, tables = ended.stdout.split("\n\n", 1)
    return tables, sorted(tuple(row[name] for name in names) for row in rows)


def test_the_bundled_policys_table_is_the_same_on_a_cluster(tmp_path: Path):
    alone = evaluated("", tmp_path / "alone.jsonl")
    spread = evaluated("--engine ray --workers 2", tmp_path / "spread.jsonl")
    assert spread == alone
    assert "| pick_up_red_cube | 3 of 3 |" in alone[0]
