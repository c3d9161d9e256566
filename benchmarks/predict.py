"""What `POST /predict` takes besides rendering and the policy: reading, preparing, the way to a worker, the reply.

    cd vla-servers/octo-small && uv run python ../../benchmarks/predict.py [--model bundled://tabletop]

One client sends one request after the other over one connection; the time is the client's, from before the request is
sent to after its reply is read. Prints a Markdown table.
"""

import argparse
import base64
import http.client
import io
import json
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image
from server import add_figures, machine, running

Body = dict[str, Any]
SCENE = "/scenes/panda/tabletop"
NUM_JOINTS = 7
WARM_UP = 5


def main() -> None:
    """Measure scenes and images, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled://tabletop")
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--json", type=Path, help="add all figures to this file")
    arguments = parser.parse_args()
    print(f"{machine()}; {arguments.model}. Medians (least) of {arguments.requests}.\n")
    print("| sent | ms | render | infer | neither | of it queue | write |\n|---|---|---|---|---|---|---|")
    found = {}
    with running(arguments.model) as server:
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(server.url).netloc)
        for name, bodies in {"a scene's state": scenes(connection), "a PNG, 224x224": pictures()}.items():
            rows = found[name] = measure(connection, bodies, arguments.requests)
            columns = ("total", "render", "infer", "neither", "queue", "write")
            print(f"| {name} | " + " | ".join(spread([row[column] for row in rows]) for column in columns) + " |")
    add_figures(arguments.json, "predict", found)


def measure(connection: http.client.HTTPConnection, bodies: Iterator[Body], count: int) -> list[dict[str, float]]:
    """Send requests one after the other; return the milliseconds of each."""
    rows = []
    for body in (next(bodies) for _ in range(WARM_UP + count)):
        sent = json.dumps(body)
        started = time.perf_counter()
        reply = post(connection, sent)
        total = 1e3 * (time.perf_counter() - started)
        spent = json.loads(reply)["timing_ms"]
        rows.append({**spent, "total": total, "neither": total - spent["render"] - spent["infer"]})
    return rows[WARM_UP:]


def post(connection: http.client.HTTPConnection, sent: str) -> bytes:
    """Send one request and return its reply."""
    connection.request("POST", "/predict", sent, {"Content-Type": "application/json"})
    response = connection.getresponse()
    reply = response.read()
    assert response.status == 200, reply[:500]
    return reply


def scenes(connection: http.client.HTTPConnection) -> Iterator[Body]:
    """Ask for an action in a scene that the server holds, in another state each time."""
    connection.request("GET", SCENE)
    xml = connection.getresponse().read().decode()
    task: Body = {"instruction": "pick up the red cube", "seed": 0}
    scene_id = json.loads(post(connection, json.dumps({**task, "xml_string": xml})))["scene_id"]
    home = ElementTree.fromstring(xml).find("keyframe/key[@name='home']")
    assert home is not None
    qpos = np.array(home.attrib["qpos"].split(), float)
    random = np.random.default_rng(0)
    while True:
        moved = qpos + np.where(np.arange(len(qpos)) < NUM_JOINTS, random.uniform(-0.1, 0.1, len(qpos)), 0)
        yield {**task, "scene_id": scene_id, "state": {"qpos": moved.tolist()}}


def pictures() -> Iterator[Body]:
    """Ask for an action by images, a new one each time."""
    random = np.random.default_rng(0)
    while True:
        # As large as a photograph's when packed: coarse noise, smoothly enlarged.
        coarse = Image.fromarray(random.integers(0, 256, (28, 28, 3), np.uint8))
        packed = io.BytesIO()
        coarse.resize((224, 224)).save(packed, "PNG")
        yield {
            "instruction": "pick up the red cube",
            "seed": 0,
            "image": base64.b64encode(packed.getvalue()).decode(),
        }


def spread(found: list[float]) -> str:
    """Write the median and the least."""
    return f"{np.median(found):.1f} ({min(found):.1f})"


if __name__ == "__main__":
    main()
