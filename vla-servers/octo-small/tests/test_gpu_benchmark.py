"""The benchmark of a GPU, tried on the processor: it measures, prints rows and writes what it found."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "gpu.py"


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    quick = ["--cpu", "--model", "random://octo-tiny", "--calls", "1", "--together", "1", "2"]
    command = [sys.executable, str(BENCHMARK), *quick, "--folder", str(folder / "gpu"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=480, check=False, cwd=folder)


def test_one_command_prints_stages_precisions_and_whether_alone_is_as_together(tmp_path: Path):
    found = _run(tmp_path, "--json", str(tmp_path / "found.json"), "--precisions", "highest", "bf16")
    assert found.returncode == 0, found.stderr
    for row in ("window 2, primary", "image stems", "action head", "2 together", "error beside highest"):
        assert f"| {row}" in found.stdout
    assert "| 2 together beside alone | 2 of 2 the same bits, 0 off |" in found.stdout
    figures = json.loads((tmp_path / "found.json").read_text())
    assert {"highest", "bf16"} == figures["precisions"].keys()
    assert figures["precisions"]["highest"]["error beside highest"] == {"most": 0, "mean": 0}
    assert "jax" in figures["machine"]
    assert not (tmp_path / "gpu" / "bin").exists(), "nothing was missing"
