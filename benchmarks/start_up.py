"""How long a server takes to its first action and to be healthy, and what it takes: memory, installed size.

    cd vla-servers/octo-small && uv run python ../../benchmarks/start_up.py [--model random://octo-small-1.5]

Each model is started twice on a cache folder that is empty at first: cold, then with compiled programs and converted
weights in place. The first action is for a client that asks from the beginning on. Prints a Markdown table.
"""

import argparse
import base64
import io
import json
import sysconfig
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from server import add_figures, is_healthy, machine, starting

REQUESTS = 10
COLUMNS = ("first action after s", "healthy after s", "/predict ms (median of 10)", "memory MB", "peak MB")


def main() -> None:
    """Measure every model that is named and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help="random://, hf:// or a folder; may be given several times")
    parser.add_argument("--json", type=Path, help="add all figures to this file")
    arguments = parser.parse_args()
    models = arguments.model or ["random://octo-small-1.5"]
    installed_mb = _installed_mb()
    print(f"{machine()}; installed size of the environment: {installed_mb:.0f} MB.\n")
    print(f"| model | cache | {' | '.join(COLUMNS)} |")
    print("|---|---|" + "---|" * len(COLUMNS))
    found = []
    for model in models:
        with tempfile.TemporaryDirectory() as cache:
            for state in ("cold", "warm"):
                row = _measure(model, Path(cache))
                cells = [model, state, *(f"{number:.1f}" for number in row)]
                print(f"| {' | '.join(cells)} |", flush=True)
                found.append({"model": model, "cache": state, **dict(zip(COLUMNS, row, strict=True))})
    add_figures(arguments.json, "start_up", {"installed MB": installed_mb, "starts": found})


def _measure(model: str, cache: Path) -> list[float]:
    with starting(model, cache) as server:
        waits_s = [server.seconds_until(is_ready) for is_ready in (_answers, is_healthy)]
        took_ms = [_predict_ms(server.url, seed) for seed in range(REQUESTS)]
        memory = [server.memory_mb(field) for field in ("VmRSS", "VmHWM")]
    return [*waits_s, float(np.median(took_ms)), *memory]


def _answers(url: str) -> bool:
    try:
        _predict_ms(url, seed=0)
    except OSError:  # refused: by the machine while nothing listens, by the server while it loads
        return False
    return True


def _predict_ms(url: str, seed: int) -> float:
    picture = io.BytesIO()
    Image.fromarray(np.full((224, 224, 3), 128, np.uint8)).save(picture, "PNG")
    encoded = base64.b64encode(picture.getvalue()).decode()
    body: dict[str, Any] = {"instruction": "pick up the red cube", "image": encoded, "seed": seed}
    request = urllib.request.Request(f"{url}/predict", json.dumps(body).encode(), {"Content-Type": "application/json"})
    started = time.perf_counter()
    with urllib.request.urlopen(request, timeout=60) as response:
        assert len(json.load(response)["action"]) == 8
    return 1e3 * (time.perf_counter() - started)


def _installed_mb() -> float:
    packages = Path(sysconfig.get_path("purelib"))
    return sum(file.stat().st_size for file in packages.rglob("*") if file.is_file()) / 2**20


if __name__ == "__main__":
    main()
