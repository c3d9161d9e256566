"""How fast one NVIDIA GPU answers, at which precision with what error, and whether a request alone gets the same bits.

    python3 benchmarks/gpu.py [--json FILE]

Runs on a bare machine: what this Python lacks is installed into a folder of its own, from the package index or, without
a network, from --wheels, both packages' among them; a JAX that sees the GPU is used as it is. It ends within eight
minutes, setting up included. What was measured is printed, as rows for docs/performance.md, and written as JSON.
`--cpu --model random://octo-tiny --calls 1 --together 1 2` tries it without a GPU.
"""

import argparse
import importlib.metadata
import json
import re
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"vla-server-base": ROOT / "vla-server-base", "octo-service": ROOT / "vla-servers/octo-small"}
PRECISIONS = ("highest", "default", "bf16")
LIMIT_S = 460.0
SEES_A_GPU = "import jax, sys; sys.exit(jax.default_backend() != 'gpu')"


def main() -> None:
    """Set up, measure in a process of its own that ends in time, and print what it found."""
    started = time.monotonic()
    arguments = parsed()
    if arguments.measure:
        measure(arguments)
        return
    arguments.json.unlink(missing_ok=True)
    python = ready_python(arguments)
    command = [python, __file__, "--measure", *sys.argv[1:]]
    try:
        left = LIMIT_S - (time.monotonic() - started)
        status = subprocess.run(command, timeout=left, check=False).returncode
    except subprocess.TimeoutExpired:
        status = 1
        print(f"ended after {LIMIT_S:.0f} s; what follows was measured until then", file=sys.stderr)
    if not arguments.json.exists():
        sys.exit("nothing was measured; the reason is above")
    print("\n".join(rows(json.loads(arguments.json.read_text()))))
    sys.exit(status)


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="where all figures are written to")
    parser.add_argument("--model", default="random://octo-small-1.5")
    parser.add_argument("--calls", type=int, default=50, help="of each stage and each case")
    parser.add_argument("--together", type=int, nargs="*", default=[1, 2, 4, 8, 16, 32, 64, 128, 256])
    parser.add_argument("--precisions", nargs="*", default=PRECISIONS, choices=PRECISIONS)
    parser.add_argument("--folder", type=Path, default=ROOT / ".gpu", help="where what is missing is installed")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels, for a machine without a network")
    parser.add_argument("--cpu", action="store_true", help="try it without a GPU")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def ready_python(arguments: argparse.Namespace) -> str:
    """Return a Python with all that is needed: this one, or one that sees its packages and has what was missing."""
    looks = [sys.executable, "-c", SEES_A_GPU]
    needs_jax = not arguments.cpu and subprocess.run(looks, capture_output=True, check=False).returncode != 0
    if has_packages() and not needs_jax:
        return sys.executable
    python = str(arguments.folder / "bin/python")
    venv.create(arguments.folder, with_pip=True, clear=True)
    library = sysconfig.get_path("purelib", vars={"base": str(arguments.folder)}, scheme="posix_prefix")
    Path(library, "beside.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    packages = [str(folder) for folder in PACKAGES.values()]
    if arguments.wheels:
        packages = [*PACKAGES, "--no-index", "--find-links", str(arguments.wheels)]
    packages += [f"jax[{cuda_extra()}]"] if needs_jax else []
    print(f"installing into {arguments.folder}: {' '.join(packages)}", file=sys.stderr)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def has_packages() -> bool:
    """Say whether this Python has the service."""
    try:
        return all(importlib.metadata.version(name) for name in PACKAGES)
    except importlib.metadata.PackageNotFoundError:
        return False


def cuda_extra() -> str:
    """Name the CUDA that the driver takes, by what nvidia-smi says."""
    said = subprocess.run(["nvidia-smi"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"CUDA Version: (\d+)", said)
    return "cuda13" if found and int(found[1]) >= 13 else "cuda12"


def measure(arguments: argparse.Namespace) -> None:
    """Measure each precision, and write down all figures after each step."""
    import jax
    from server import machine

    from octo_service.adapter import OctoSmallAdapter
    from octo_service.config import OctoConfig

    figures: dict[str, Any] = {"model": arguments.model, "calls": arguments.calls, "precisions": {}}
    exact = None
    for precision in arguments.precisions:
        adapter = OctoSmallAdapter(OctoConfig(precision=precision))
        started = time.perf_counter()
        adapter.load_model(arguments.model, "cpu" if arguments.cpu else "gpu", arguments.folder / "cache")
        found: dict[str, Any] = {"load_s": time.perf_counter() - started}
        figures |= {"machine": f"{machine()}, device {jax.devices()[0].device_kind}"}
        figures["precisions"][precision] = found
        for name, value in measured(adapter, arguments):
            if name == "actions":
                exact = value if exact is None else exact
                value = {"most": float(abs(value - exact).max()), "mean": float(abs(value - exact).mean())}
                name = f"error beside {arguments.precisions[0]}"
            found[name] = value
            write(arguments.json, figures)


def measured(adapter: Any, arguments: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """Give what was measured of one precision, by name, the most important first."""
    import inference
    import precision

    cameras = set(adapter.spec.camera_names)
    cases = [
        case for case in inference.CASES if cameras.issuperset(case.cameras) and case.window <= adapter.spec.window
    ]
    requests: dict[str, dict[str, list[float]]] = {}
    for case in cases:
        row: dict[str, Any] = {f"{what}_{unit}": [] for what in ("request", "idle") for unit in ("ms", "cpu_ms")}
        inference.run_session(adapter, case, arguments.calls, row | {"first_ms": []}, turn=0)
        requests[case.name] = {"request_ms": row["request_ms"], "idle_ms": row["idle_ms"]}
    yield "requests", requests
    yield "stages", inference.measure_stages(adapter, arguments.calls)
    yield "actions", precision.actions_of(adapter)
    case = cases[-1]
    for size in arguments.together:
        yield f"{size} together ms", inference.measure_together(adapter, case, size)
    for size in arguments.together:
        yield f"{size} together beside alone", beside_alone(adapter, case, size)


def beside_alone(adapter: Any, case: Any, size: int) -> dict[str, Any]:
    """Compare the chunks of requests that came together with those of each alone."""
    import inference
    import numpy as np

    from vla_server_base.contract import Observation, PolicyInput
    from vla_server_base.sessions.action_chunking import ObservationWindow

    task = adapter.preprocess_instruction(inference.TASK)
    random = np.random.default_rng(size)
    batch = []
    for seed in range(size):
        history, windows = ObservationWindow(case.window), []
        for _ in range(case.window):
            images = {name: random.integers(0, 256, (224, 224, 3), np.uint8) for name in case.cameras}
            windows.append(history.append(Observation(images=images)))
        seen = adapter.preprocess_observation(windows[-1])
        batch.append(PolicyInput(observation=seen, task=task, seed=seed, step=0))
    together = np.stack(adapter.predict(batch))
    alone = np.stack([adapter.predict([policy_input])[0] for policy_input in batch])
    same = [bool(np.array_equal(one, other)) for one, other in zip(together, alone, strict=True)]
    return {"same": sum(same), "of": size, "most": float(abs(together - alone).max())}


def write(file: Path, figures: dict[str, Any]) -> None:
    """Replace the file at once: this process may be ended at any time."""
    new = file.with_name(f"{file.name}.new")
    new.write_text(json.dumps(figures, indent=1))
    new.replace(file)


def rows(figures: dict[str, Any]) -> Iterator[str]:
    """Give the lines for docs/performance.md."""
    found = figures["precisions"]
    yield f"`benchmarks/gpu.py` on {figures['machine']}; `{figures['model']}`."
    yield f"Medians (least) of {figures['calls']}, in ms; of what comes together of fewer:\n"
    yield f"| | {' | '.join(f'`{name}`' for name in found)} |\n|{'---|' * (1 + len(found))}"
    for kind in ("requests", "stages"):
        for name in next(iter(found.values())).get(kind, {}):
            values = [each.get(kind, {}).get(name) for each in found.values()]
            values = [value["request_ms"] if isinstance(value, dict) else value for value in values]
            yield f"| {name} | {' | '.join(map(spread, values))} |"
    for name in next(iter(found.values())):
        values = [each.get(name) for each in found.values()]
        if name.endswith(" together ms"):
            yield f"| {name.removesuffix(' ms')} | {' | '.join(map(spread, values))} |"
        elif name.endswith("beside alone"):
            cells = [f"{v['same']} of {v['of']} the same bits, {v['most']:.2g} off" if v else "-" for v in values]
            yield f"| {name} | {' | '.join(cells)} |"
        elif name.startswith("error"):
            cells = [f"{v['most']:.2g} at most, {v['mean']:.2g} on average" if v else "-" for v in values]
            yield f"| {name} | {' | '.join(cells)} |"
    ready = [f"{each['load_s']:.1f}" for each in found.values()]
    yield f"| ready after s | {' | '.join(ready)} |"


def spread(values: list[float] | None) -> str:
    """Write a median and the least."""
    if not values:
        return "-"
    return f"{sorted(values)[len(values) // 2]:.2f} ({min(values):.2f})"


if __name__ == "__main__":
    main()
