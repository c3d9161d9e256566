"""What a request costs beside the policy, in processor time on this machine: other programs change it less than time.

An ingress replica's part is what a whole server takes around a policy that costs nothing, less the engine's part. A
model replica's host has the engine's part, Octo's preprocessing and the reception of the window from another process.
"""

import asyncio
import logging
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from robots import INSTRUCTION, Beat, Order, drive
from server import running

from octo_service.adapter import OctoSmallAdapter
from vla_server_base.config import ServerConfig
from vla_server_base.contract import Observation, PolicyRequest, Task
from vla_server_base.engine.engine import pad_window
from vla_server_base.engine.in_process import InProcessEngine
from vla_server_base.testing import EchoAdapter

SIDE = 256
WINDOW_BYTES = 2 * SIDE * SIDE * 3
NUM_CALLS = 300
_ECHO_SERVER = """
import os, uvicorn
from vla_server_base.config import ServerConfig
from vla_server_base.server.app import create_vla_app
from vla_server_base.testing import EchoAdapter
app = create_vla_app(EchoAdapter(), ServerConfig(scene_workers=1), model_id="echo")
uvicorn.run(app, port=int(os.environ["VLA_PORT"]), log_level="error")
"""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Processor seconds of a request in each kind of process, and how long a call of another process takes."""

    ingress_s: float
    host_s: float
    save_s: float
    hop_s: float


def measure_costs(model: str, with_ray: bool) -> Costs:
    """Measure on this machine; without Ray, sending a window is taken to cost nothing, and a hop to take 3 ms."""
    engine_s = asyncio.run(_engine_s())
    served_s = _served_s()
    sent_s, received_s, hop_s = _between_processes() if with_ray else (0.0, 0.0, 0.003)
    return Costs(
        # To the model replica, and to two stores.
        ingress_s=served_s - engine_s + 3 * sent_s,
        host_s=engine_s + _preprocessed_s(model) + received_s,
        save_s=received_s,
        hop_s=hop_s,
    )


def _served_s() -> float:
    """Return what a server takes for a request over a WebSocket with one raw image of 256x256."""
    with running("echo", command=("-c", _ECHO_SERVER)) as server:
        beats = [Beat(period_s=0.2, deadline_s=1.0, phase_s=0.025 * number) for number in range(8)]
        order = Order(url=server.url.replace("http", "ws"), beats=beats, seconds=1.0, warm_up_s=0.0, side=SIDE)
        drive(order)
        before, began = _used_s(server.process.pid), time.perf_counter()
        asked = drive(Order(**{**vars(order), "seconds": 8.0}))
        idle_s = time.perf_counter() - began
        used_s = _used_s(server.process.pid) - before
        # What the server does while nobody asks is not a request's.
        before = _used_s(server.process.pid)
        time.sleep(2.0)
        used_s -= (_used_s(server.process.pid) - before) / 2.0 * idle_s
    return used_s / len(asked)


def _used_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


async def _engine_s() -> float:
    """Return what the engine takes for a request, beside its policy."""
    engine = InProcessEngine(EchoAdapter(), ServerConfig(), "echo")
    engine.start()
    await engine.loaded()
    window = pad_window([_observation("primary")], 2)
    request = PolicyRequest(window=window, task=Task(instruction=INSTRUCTION), seed=0, step=0)
    began = time.process_time()
    for _ in range(NUM_CALLS):
        await engine.predict(request)
    used_s = time.process_time() - began
    await engine.close()
    return used_s / NUM_CALLS


def _preprocessed_s(model: str) -> float:
    """Return what Octo's preprocessing of a window with a new image takes."""
    adapter = OctoSmallAdapter()
    adapter.load_model(model, ServerConfig().device, ServerConfig().cache_dir)
    camera = adapter.spec.cameras[0]
    rng = np.random.default_rng(0)
    used = []
    for _ in range(30):
        picture = rng.integers(0, 256, (camera.height, camera.width, 3), np.uint8)
        window = pad_window([Observation(images={camera.name: picture})], adapter.spec.window)
        began = time.process_time()
        adapter.preprocess_observation(window)
        used.append(time.process_time() - began)
    return statistics.median(used)


def _observation(camera: str) -> Observation:
    return Observation(images={camera: np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)})


def _between_processes() -> tuple[float, float, float]:
    """Return what a window costs its sender and its receiver, and how long the call takes: a method of a Ray actor."""
    import vla_server_base.fleet  # noqa: F401  before Ray, which then reads what is set there

    # isort: split
    import ray

    ray.init(
        num_cpus=1,
        object_store_memory=200 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        receiver = cast(Any, ray.remote(_Receiver)).options(num_cpus=0.1).remote()
        window = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)

        def call() -> float:
            return ray.get(receiver.take.remote(window))

        return _call_costs(call)
    finally:
        ray.shutdown()


class _Receiver:
    """Takes windows, and replies with the processor time that it has used."""

    def take(self, window: np.ndarray) -> float:
        """Take a window."""
        assert window.nbytes == WINDOW_BYTES
        return time.process_time()


def _call_costs(call: Callable[[], float]) -> tuple[float, float, float]:
    """Measure calls whose reply is the receiver's processor time."""
    for _ in range(20):
        call()
    received, sent_before, taken = [call()], time.process_time(), []
    for _ in range(NUM_CALLS):
        began = time.perf_counter()
        received.append(call())
        taken.append(time.perf_counter() - began)
    sent_s = (time.process_time() - sent_before) / NUM_CALLS
    return sent_s, (received[-1] - received[0]) / NUM_CALLS, statistics.median(taken)
