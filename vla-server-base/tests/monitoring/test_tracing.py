"""Traces, as a collector gets them by OTLP over HTTP from a live server that robots of every protocol talk to."""

import secrets
import subprocess
import sys
from dataclasses import replace
from typing import Any

import grpc
import httpx
import pytest
from all_protocols import PREDICT, SCENE, SEEN, serving_all
from collector import attributes, collecting
from lerobot_pickles import pickled_observation, pickled_setup
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import use_span
from required_inputs_robots import ROBOTS
from websockets.sync.client import connect

from vla_client.message_pack import pack, unpack
from vla_client.policy import Policy
from vla_client.tracing import trace_fields
from vla_server_base.monitoring.traceparent import valid_traceparent
from vla_server_base.protocols.lerobot_protobuf import MESSAGES

PARTS = {"read", "preprocess", "queue", "device batch", "write"}


@pytest.fixture(scope="module")
def traced():
    """A server that speaks all protocols and sends its traces to a collector of ours."""
    with collecting() as collector, pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        with serving_all() as ports:
            yield ports, collector


def new_trace() -> tuple[str, str]:
    """A trace id, and the traceparent of a sampled span in it."""
    trace_id = secrets.token_hex(16)
    return trace_id, f"00-{trace_id}-{secrets.token_hex(8)}-01"


def parts_of(spans) -> set[str]:
    """Check that a trace is one request with parts, and return the parts' names."""
    (root,) = [span for span in spans if span.parent_span_id not in {other.span_id for other in spans}]
    parts = [span for span in spans if span is not root]
    assert {span.parent_span_id for span in parts} == {root.span_id}
    assert all(span.start_time_unix_nano <= span.end_time_unix_nano for span in spans)
    return {span.name for span in parts}


def test_a_request_over_http_continues_the_trace_of_its_header(traced):
    ports, collector = traced
    trace_id, traceparent = new_trace()
    body = {**PREDICT, "session_id": "arm", "seed": 7}
    reply = httpx.post(f"{ports.url}/predict", json=body, headers={"traceparent": traceparent, "X-Request-Id": "mine"})
    assert reply.headers["X-Request-Id"] == "mine"
    spans = collector.trace(trace_id, 6)
    assert parts_of(spans) == PARTS
    (root,) = [span for span in spans if span.name == "http /predict"]
    assert root.parent_span_id.hex() == traceparent[36:52]
    known = {"vla.session": "arm", "vla.step": 0, "vla.seed": 7, "vla.model": "echo", "vla.request_id": "mine"}
    assert known.items() <= attributes(root).items()
    (batch,) = [span for span in spans if span.name == "device batch"]
    assert attributes(batch)["vla.batch_size"] == 1
    assert [link.span_id for link in batch.links] == [root.span_id]
    assert collector.services == {"vla-servers"}


@pytest.mark.parametrize("protocol", ["openpi", "vla-eval"])
def test_a_message_on_a_websocket_names_its_own_trace(traced, protocol):
    ports, collector = traced
    trace_id, traceparent = new_trace()
    robot = ROBOTS[protocol](ports)
    robot.act(replace(SEEN, more={"traceparent": traceparent}))
    robot.close()
    assert parts_of(collector.trace(trace_id, 6)) == PARTS


def test_messages_without_one_belong_to_the_trace_of_their_handshake(traced):
    ports, collector = traced
    trace_id, traceparent = new_trace()
    with connect(ports.url.replace("http", "ws"), additional_headers={"traceparent": traceparent}) as robot:
        robot.recv()
        for _ in range(2):
            robot.send(pack({"observation/image": SEEN.images["primary"], "prompt": "go"}))
            assert "actions" in unpack(robot.recv())
    names = [span.name for span in collector.trace(trace_id, 12)]
    assert names.count("openpi /") == names.count("device batch") == 2


def test_a_gr00t_client_names_its_trace_in_the_options(traced):
    import zmq

    ports, collector = traced
    trace_id, traceparent = new_trace()
    observation = {
        "video": {"primary": SEEN.images["primary"][None, None]},
        "language": {"task": [["go"]]},
    }
    data = {"observation": observation, "options": {"traceparent": traceparent}}
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.connect(f"tcp://127.0.0.1:{ports.zmq}")
        socket.send(pack({"endpoint": "get_action", "data": data}))
        assert "error" not in unpack(socket.recv())
    assert parts_of(collector.trace(trace_id, 6)) == PARTS


def test_a_call_over_grpc_continues_the_trace_of_its_metadata(traced):
    ports, collector = traced
    trace_id, traceparent = new_trace()
    observation: dict[str, Any] = {"primary": SEEN.images["primary"], "task": "go"}
    seen = MESSAGES["Observation"](
        transfer_state=3, data=pickled_observation(observation, timestep=0, must_go=True)
    ).SerializeToString()
    setup = MESSAGES["PolicySetup"](data=pickled_setup(lerobot_features={}, rename_map={})).SerializeToString()
    with grpc.insecure_channel(f"127.0.0.1:{ports.lerobot}") as channel:
        service = "/transport.AsyncInference"
        channel.unary_unary(f"{service}/SendPolicyInstructions")(setup)
        channel.stream_unary(f"{service}/SendObservations")(iter([seen]))
        channel.unary_unary(f"{service}/GetActions")(b"", metadata=(("traceparent", traceparent),))
    spans = collector.trace(trace_id, 5)
    assert parts_of(spans) == PARTS - {"read"}
    assert "lerobot GetActions" in {span.name for span in spans}


def test_a_scene_is_rendered_within_its_requests_trace(traced):
    ports, collector = traced
    trace_id, traceparent = new_trace()
    body = {"instruction": "go", "xml_string": SCENE}
    httpx.post(f"{ports.url}/predict", json=body, headers={"traceparent": traceparent}, timeout=60).raise_for_status()
    spans = collector.trace(trace_id, 7)
    assert parts_of(spans) == PARTS | {"render in worker"}
    (rendering,) = [span for span in spans if span.name == "render in worker"]
    assert attributes(rendering)["vla.render_ms"] > 0


def test_a_refusal_is_in_its_trace_with_its_code(traced):
    ports, collector = traced
    trace_id, traceparent = new_trace()
    httpx.post(f"{ports.url}/predict", json={"instruction": "go"}, headers={"traceparent": traceparent})
    (root,) = collector.trace(trace_id, 1)
    assert attributes(root)["error.type"] == "invalid_request"


def test_the_client_continues_the_trace_of_its_program(traced):
    ports, collector = traced
    span = TracerProvider().get_tracer("robot").start_span("step")
    trace_id = f"{span.get_span_context().trace_id:032x}"
    with Policy(ports.url.replace("http", "ws"), seed=0) as policy, use_span(span):
        policy.reset()
        policy.act({"primary": SEEN.images["primary"]}, "go")
    assert parts_of(collector.trace(trace_id, 6)) == PARTS
    assert trace_fields() == {}


@pytest.mark.parametrize(
    "value", ["", "00-0-0-01", f"ff-{'1' * 32}-{'1' * 16}-01", f"00-{'0' * 32}-{'1' * 16}-01", 3, b"\xff", None]
)
def test_what_is_no_traceparent_counts_as_none(value):
    assert valid_traceparent(value) is None


def test_without_the_extra_a_server_that_is_to_trace_says_so_in_one_sentence(tmp_path):
    code = """
import sys
sys.modules["opentelemetry.exporter.otlp.proto.http.trace_exporter"] = None
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.program import app_for_uvicorn
from vla_server_base.testing import EchoAdapter
app_for_uvicorn(lambda config: create_vla_app(EchoAdapter(), config, model_id="echo"))
"""
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith("OTEL_EXPORTER_OTLP_ENDPOINT: traces need OpenTelemetry; ")
    assert len(done.stderr.splitlines()) == 1
