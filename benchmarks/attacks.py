"""Every known attack on a real server, one after another, while a second client goes on asking for actions.

    cd vla-server-base && uv run python ../benchmarks/attacks.py

The server (echo policy), the attacker and the second client are processes of their own. The second client sends
`POST /predict` with the `scene_id` of a bundled scene and a state, each as soon as the last is answered: before,
during and after the attacks. Prints Markdown; fails where an attack is not refused within 10 s, where the second
client was not answered, or where its median latency grew by more than half.
"""

import argparse
import base64
import importlib.metadata
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from vla_server_base.config import ServerConfig
from vla_server_base.scenes.library import bundled_scene
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing import EchoAdapter

sys.path.insert(0, str(Path(__file__).parents[1] / "vla-server-base" / "tests" / "scenes"))

import attack_scenes

MAX_ATTACK_S = 10.0
MAX_RATIO = 1.5
SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One request, as httpx takes it."""

    name: str
    path: str = "/predict"
    request: dict[str, Any] = field(default_factory=dict)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alone-s", type=float, default=10.0, help="how long the second client is alone, twice")
    alone_s = parser.parse_args().alone_s
    with (
        _server() as url,
        _second_client(url) as second,
        tempfile.TemporaryDirectory() as folder,
        httpx.Client(base_url=url, timeout=60) as attacker,
    ):
        alone = [_span(alone_s)]
        started = time.time()
        rows = [_attack(attacker, attack) for attack in _attacks(Path(folder))]
        during = (started, time.time())
        alone.append(_span(alone_s))
        second.stop.set()
        asked = second.samples.recv()
    print(f"{_machine()}.\n")
    print("| attack | status | code | seconds |\n|---|---|---|---|")
    for name, status, code, seconds in rows:
        print(f"| {name} | {status} | {code} | {seconds:.2f} |")
    ratio = _print_latency(asked, alone, during)
    wrong = [row for row in rows if not (400 <= row[1] < 500 and row[3] < MAX_ATTACK_S)]
    failed = [status for _, _, status in asked if status != 200]
    if wrong or failed or ratio > MAX_RATIO:
        sys.exit(f"FAILED: attacks {wrong}; second client's failures {failed}; ratio {ratio:.2f}")


def _attacks(folder: Path) -> Iterator[Attack]:
    fifo = folder / "fifo.xml"
    os.mkfifo(fifo)
    scenes = {
        **attack_scenes.REFUSED,
        **{name: xml for name, (xml, _) in attack_scenes.ANSWERED.items()},
        "include of a FIFO": attack_scenes.in_world(f"<include file='{fifo}'/>"),
    }
    for name, xml in scenes.items():
        yield Attack(name=name, request={"json": {"instruction": "attack", "xml_string": xml}})
    for name, content in attack_scenes.RUBBISH.items():
        for element in attack_scenes.ASSET_ELEMENTS:
            scene = attack_scenes.rubbish_scene(name, element)
            assets = {name: base64.b64encode(content).decode()}
            body = {"instruction": "attack", "xml_string": scene.xml, "assets": assets}
            yield Attack(name=f"rubbish: {name} as {element.split()[0]}", request={"json": body})
    comment = attack_scenes.in_world(f"<!--{'x' * 100_000_000}-->")
    yield Attack(name="comment of 100 MB", request={"json": {"instruction": "attack", "xml_string": comment}})
    said = (None, '{"instruction": "attack"}')
    yield Attack(name="MJB as MJCF", request={"files": {"request": said, "xml": ("a.xml", attack_scenes.MJB)}})
    yield Attack(name="MJB as a zip", request={"files": {"request": said, "scene": ("a.mjz", attack_scenes.MJB)}})
    for name, xml in attack_scenes.SIMULATED.items():
        body = {"instruction": "attack", "xml_string": xml}
        yield Attack(name=f"episode: {name}", path="/execute", request={"json": body})
        yield Attack(name=f"joint_position: {name}", request={"json": {**body, "action_format": "joint_position"}})


def _attack(attacker: httpx.Client, attack: Attack) -> tuple[str, int, str, float]:
    started = time.perf_counter()
    reply = attacker.post(attack.path, **attack.request)
    seconds = time.perf_counter() - started
    code = reply.json()["error"]["code"] if reply.status_code >= 400 else "none"
    return attack.name, reply.status_code, code, seconds


def _span(seconds: float) -> tuple[float, float]:
    started = time.time()
    time.sleep(seconds)
    return started, time.time()


def _print_latency(
    asked: list[tuple[float, float, int]], alone: list[tuple[float, float]], during: tuple[float, float]
) -> float:
    """Print what the second client saw; return by how much its median grew."""
    print("\n| second client's /predict | requests | median ms | p99 ms | slowest ms |\n|---|---|---|---|---|")
    medians = []
    for name, spans in (("alone, before and after", alone), ("during the attacks", [during])):
        times = [ms for at, ms, _ in asked if any(start <= at < end for start, end in spans)]
        assert len(times) > 100, f"{len(times)} requests {name}: too few to say anything"
        medians.append(float(np.median(times)))
        row = f"{len(times)} | {medians[-1]:.2f} | {np.percentile(times, 99):.1f} | {max(times):.0f}"
        print(f"| {name} | {row} |")
    ratio = medians[1] / medians[0]
    print(f"\nRatio of the medians: {ratio:.2f}; not answered: {sum(status != 200 for _, _, status in asked)}.")
    return ratio


@contextmanager
def _server() -> Iterator[str]:
    said, told = SPAWN.Pipe()
    stop = SPAWN.Event()
    process = SPAWN.Process(target=_serve, args=(told, stop))
    process.start()
    try:
        yield said.recv()
    finally:
        stop.set()
        process.join()


def _serve(told: Connection, stop: Event) -> None:
    app = create_vla_app(EchoAdapter(), ServerConfig(), model_id="echo")
    with serving(app) as url:
        while httpx.get(f"{url}/health").status_code != 200:
            time.sleep(0.1)
        told.send(url)
        stop.wait()


@dataclass(frozen=True, kw_only=True)
class _SecondClient:
    samples: Connection
    stop: Event


@contextmanager
def _second_client(url: str) -> Iterator[_SecondClient]:
    samples, told = SPAWN.Pipe()
    client = _SecondClient(samples=samples, stop=SPAWN.Event())
    process = SPAWN.Process(target=_keep_asking, args=(url, told, client.stop))
    process.start()
    try:
        assert samples.recv() == "warm"
        yield client
    finally:
        client.stop.set()
        process.join()


def _keep_asking(url: str, told: Connection, stop: Event) -> None:
    """Ask until told to stop, then tell when each request was sent, how long it took [ms] and its status."""
    asked = []
    with httpx.Client(base_url=url, timeout=60) as client:
        xml = bundled_scene("panda", "tabletop")
        reply = client.post("/predict", json={"instruction": "lift the red cube", "xml_string": xml})
        body = {"instruction": "lift the red cube", "scene_id": reply.json()["scene_id"], "state": {"keyframe": "home"}}
        content, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
        for _ in range(50):
            client.post("/predict", content=content, headers=headers).raise_for_status()
        told.send("warm")
        while not stop.is_set():
            at, started = time.time(), time.perf_counter()
            status = client.post("/predict", content=content, headers=headers).status_code
            asked.append((at, 1e3 * (time.perf_counter() - started), status))
    told.send(asked)


def _machine() -> str:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next(
            line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        )
    versions = f"Python {platform.python_version()}, mujoco {importlib.metadata.version('mujoco')}"
    return f"{time.strftime('%Y-%m-%d')}, {cpu}, {os.cpu_count()} cores, {versions}"


if __name__ == "__main__":
    main()
