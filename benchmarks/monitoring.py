"""What monitoring costs: the counts and spans of a request, a line of the log, a scrape.

Run it in the base's environment: `cd vla-server-base && .venv/bin/python ../benchmarks/monitoring.py`. It prints
microseconds of one thread. Spans are batched for a collector that does not answer, as where one is down.
"""

import logging
import os
import statistics
import time
from collections.abc import Callable
from contextvars import copy_context

import httpx
import numpy as np

from vla_client.policy import Policy
from vla_server_base.config import ServerConfig
from vla_server_base.monitoring.engine_monitor import EngineMonitor
from vla_server_base.monitoring.logs import JsonLines, TextLines
from vla_server_base.monitoring.monitor import Monitoring, monitor_of_environment
from vla_server_base.request_context import begin_request
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing import EchoAdapter

NUM_REPEATS, NUM_SCRAPES, NUM_STEPS = 5000, 50, 200
NOBODY = "http://127.0.0.1:9"


def main() -> None:
    """Print one line for each cost."""
    logging.disable()
    begin_request("mine", "127.0.0.1")
    _print_cost("a request, counted", _request_of(Monitoring()))
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = NOBODY
    traced = monitor_of_environment("0")
    _print_cost("a request, counted and traced", _request_of(traced))
    del os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"]
    record = logging.LogRecord("vla", logging.INFO, "", 0, "method=GET path=/load status=200", None, None)
    record.request_id = "mine"
    for form in (TextLines(), JsonLines()):
        _print_cost(f"a line of the log, {type(form).__name__}", lambda form=form: form.format(record))
    _print_scrapes()


def _request_of(monitor: Monitoring) -> Callable[[], object]:
    """Return what a request of one step reports, on all threads."""
    engine = EngineMonitor(monitor, "octo")

    def request() -> None:
        with monitor.begin_request("/predict") as running:
            running.continue_trace()
            with monitor.timed("read"):
                pass
            context = copy_context()
            engine.preprocessed(context, 0.001)
            engine.batch_ran([context], [0.001], 0.1)
            engine.step_answered(0.1)
            engine.note_step("arm", 3, 7)
            with monitor.timed("write"):
                pass

    return request


def _print_cost(what: str, function: Callable[[], object]) -> None:
    times = []
    for _ in range(NUM_REPEATS):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    print(f"{what}: {1e6 * statistics.median(times):.1f} us")


def _print_scrapes() -> None:
    """Measure GET /metrics beside a robot, and what it holds."""
    app = create_vla_app(EchoAdapter(), ServerConfig(scene_workers=1), model_id="echo")
    image = np.zeros((224, 224, 3), np.uint8)
    with serving(app) as url, Policy(url.replace("http", "ws")) as policy, httpx.Client(base_url=url) as client:
        policy.reset()
        for _ in range(NUM_STEPS):
            policy.act({"primary": image}, "go")
        times, text = [], ""
        for _ in range(NUM_SCRAPES):
            started = time.perf_counter()
            text = client.get("/metrics").text
            times.append(time.perf_counter() - started)
        print(f"a scrape: {1e3 * statistics.median(times):.1f} ms, {len(text.splitlines())} lines, {len(text)} bytes")
        started = time.perf_counter()
        for _ in range(NUM_SCRAPES):
            client.get("/load")
        print(f"GET /load beside it: {1e3 * (time.perf_counter() - started) / NUM_SCRAPES:.1f} ms")


if __name__ == "__main__":
    main()
