"""GET /metrics, as Prometheus reads it from a live server."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from all_protocols import PREDICT
from echo_server import DEADLINE_S, echo_app, wait_until, wait_until_healthy, wait_until_loaded
from exposed_metrics import samples, value
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from test_shutdown import SLOW, workers_of
from test_uvicorn import SERVE, folder, running

from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing import EchoAdapter

__all__ = ["folder"]

ANSWERED_ROUTES = {
    "http": "/predict",
    "openvla": "/act",
    "openpi": "/",
    "vla-eval": "/vla-eval",
    "gr00t": "get_action",
    "lerobot": "GetActions",
}
STAGES = ("read", "preprocess", "queue", "infer", "compile", "render", "write")


@pytest.mark.parametrize(("protocol", "route"), ANSWERED_ROUTES.items())
def test_requests_of_every_protocol_are_counted_and_timed(ports, protocol, route):
    labels = {"protocol": protocol, "route": route}
    assert value(ports.url, "vla_requests_total", **labels, status="200") >= 2
    assert value(ports.url, "vla_request_seconds_count", **labels) >= 2
    assert value(ports.url, "vla_step_seconds_count", protocol=protocol) >= 2


@pytest.mark.parametrize("protocol", ANSWERED_ROUTES)
def test_refusals_of_every_protocol_are_counted_by_code(ports, protocol):
    code = {"http": "invalid_request"}.get(protocol, "protocol")
    assert value(ports.url, "vla_refusals_total", protocol=protocol, code=code) == 1


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_of_a_request_is_timed(ports, stage):
    assert value(ports.url, "vla_stage_seconds_count", stage=stage) >= 1
    assert value(ports.url, "vla_stage_seconds_sum", stage=stage) > 0


def test_late_and_dropped_steps_are_counted(ports):
    assert value(ports.url, "vla_deadline_misses_total", protocol="http") == 1
    assert value(ports.url, "vla_dropped_steps_total", reason="skipped") == 2


def test_the_state_of_the_server_is_read_at_the_scrape(ports):
    assert value(ports.url, "vla_ready") == 1
    states = {each.labels["state"]: each.value for each in samples(ports.url) if each.name == "vla_model_state"}
    assert states == {"loading": 0, "loaded": 1, "broken": 0}
    assert value(ports.url, "vla_sessions") >= 1
    assert value(ports.url, "vla_queue_limit", model="echo") == 64
    assert value(ports.url, "vla_scene_workers") >= 1
    assert value(ports.url, "vla_build_info") == value(ports.url, "vla_model_info", model="echo", weights="none") == 1
    assert value(ports.url, "process_resident_memory_bytes") > 2**20
    assert value(ports.url, "process_open_fds") > 3


def test_a_scene_that_comes_again_is_found_compiled(ports):
    assert value(ports.url, "vla_scene_lookups_total", result="miss") == 1
    assert value(ports.url, "vla_scene_lookups_total", result="hit") == 1
    assert value(ports.url, "vla_scene_worker_busy_seconds_total") > 0


def test_nothing_that_a_client_sent_is_a_label(ports):
    httpx.get(f"{ports.url}/sessions/secret-session/events")
    httpx.request("SECRET", f"{ports.url}/secret?secret=1", headers={"X-Request-Id": "secret"})
    assert "secret" not in httpx.get(f"{ports.url}/metrics").text
    assert value(ports.url, "vla_requests_total", route="other", status="404") >= 1


def test_openmetrics_is_written_for_those_who_ask_for_it(ports):
    reply = httpx.get(f"{ports.url}/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert reply.headers["content-type"].startswith("application/openmetrics-text")
    assert "vla_requests" in {family.name for family in openmetrics_families(reply.text)}
    assert httpx.get(f"{ports.url}/metrics").headers["content-type"].startswith("text/plain")


def test_two_apps_of_a_process_count_apart(ports):
    before = value(ports.url, "vla_requests_total", route="/predict")
    with serving(echo_app()) as url:
        wait_until_loaded(url)
        httpx.post(f"{url}/predict", json=PREDICT).raise_for_status()
        assert value(url, "vla_requests_total", route="/predict") == 1
    assert value(ports.url, "vla_requests_total", route="/predict") == before


class Held(EchoAdapter):
    """Loads, and answers, when it may."""

    def __init__(self):
        self.may_load, self.may_answer, self.is_asked = threading.Event(), threading.Event(), threading.Event()

    def load_model(self, model_id, device, cache_dir):
        assert self.may_load.wait(DEADLINE_S)

    def warm_up_inputs(self):
        return ()

    def predict(self, batch):
        self.is_asked.set()
        assert self.may_answer.wait(DEADLINE_S)
        return super().predict(batch)


def test_metrics_are_there_while_the_model_loads_and_while_the_queue_is_full():
    adapter = Held()
    with serving(echo_app(adapter, max_queue=1)) as url, ThreadPoolExecutor() as threads:
        assert value(url, "vla_model_state", state="loading") == 1
        assert value(url, "vla_ready") == 0
        adapter.may_load.set()
        wait_until_loaded(url)
        runs = threads.submit(httpx.post, f"{url}/predict", json=PREDICT, timeout=DEADLINE_S)
        assert adapter.is_asked.wait(DEADLINE_S)
        batch = {"X-Priority": "batch"}
        waits = threads.submit(httpx.post, f"{url}/predict", json=PREDICT, headers=batch, timeout=DEADLINE_S)
        wait_until(lambda: value(url, "vla_queue_length", model="echo") == 1)
        waiting = {each.labels["class"]: each.value for each in samples(url) if each.name == "vla_queue_length"}
        assert waiting == {"robot": 0, "human": 0, "batch": 1}
        adapter.may_answer.set()
        assert (runs.result().status_code, waits.result().status_code) == (200, 200)


def test_a_step_that_a_newer_one_overtakes_is_counted():
    adapter = Held()
    adapter.may_load.set()
    with serving(echo_app(adapter)) as url, ThreadPoolExecutor() as threads:
        wait_until_loaded(url)
        steps = [{**PREDICT, "session_id": "arm", "sequence": sequence} for sequence in (1, 2)]
        first = threads.submit(httpx.post, f"{url}/predict", json=steps[0], timeout=DEADLINE_S)
        wait_until(lambda: value(url, "vla_queue_length") + value(url, "vla_sessions") >= 1)
        second = threads.submit(httpx.post, f"{url}/predict", json=steps[1], timeout=DEADLINE_S)
        assert first.result().status_code == 409
        adapter.may_answer.set()
        assert second.result().status_code == 200
        assert value(url, "vla_dropped_steps_total", reason="superseded") == 1
        assert value(url, "vla_refusals_total", code="superseded") == 1


@pytest.fixture
def process(folder):
    """A server in a process of its own, whose policy takes as many milliseconds as the seed says."""
    (folder / "echo_service.py").write_text(SLOW)
    with running(folder, *SERVE, VLA_SHUTDOWN_GRACE_S="30") as (url, process, _):
        wait_until_healthy(url)
        yield url, process


def test_a_worker_that_is_killed_is_counted_and_a_server_that_shuts_down_still_answers(process):
    url, server = process
    os.kill(workers_of(server)[0], signal.SIGKILL)
    wait_until(lambda: value(url, "vla_scene_worker_restarts_total", reason="killed") == 1)
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(httpx.post, f"{url}/predict", json={**PREDICT, "seed": 3000}, timeout=DEADLINE_S)
        wait_until(lambda: value(url, "vla_batch_size_count") + value(url, "vla_stage_seconds_count") >= 1)
        server.send_signal(signal.SIGTERM)
        wait_until(lambda: value(url, "vla_ready") == 0)
        assert answer.result().is_success
