"""How many files of the server one POST /predict goes through, so that a reader can follow it.

A file counts when any function in it is called on any thread of the server's process, from the request's first byte to
its reply's last, after a first request has warmed everything up. The worker that renders scenes is another process.
"""

import base64
import threading
import time
from pathlib import Path

import httpx
import pytest
from echo_server import echo_app, of_one_colour, wait_until_healthy

import vla_server_base
from vla_server_base.server.uvicorn_server import serving

ROOT = Path(vla_server_base.__file__).parent
NOT_OF_THE_REQUEST = {"testing/echo.py", "server/traffic.py"}
"""The policy, and the clock that ticks twice a second for all connections."""
MAX_FILES_OF_AN_IMAGE, MAX_FILES_OF_A_SCENE = 17, 28
SCENE = """<mujoco><worldbody><light pos="0 0 2"/><geom type="plane" size="1 1 0.1"/>
<camera name="primary" pos="0.8 0 0.8" xyaxes="0 1 0 -0.7 0 0.7"/></worldbody></mujoco>"""
IMAGE_FILE = base64.b64decode(of_one_colour(90, 90, 90))


class Trace:
    """The files of `vla_server_base` that are entered on threads which start after this, while it counts."""

    def __init__(self):
        self.files: set[str] = set()
        self.is_counting = False

    def __call__(self, frame, event, _):
        if self.is_counting and event == "call" and (file := frame.f_code.co_filename).startswith(str(ROOT)):
            self.files.add(Path(file).relative_to(ROOT).as_posix())

    def of(self, request) -> set[str]:
        """The files of the second of two requests, without those that are not of it."""
        assert request().is_success
        time.sleep(0.1)  # until the first one's connection rests
        self.files.clear()
        self.is_counting = True
        response = request()
        self.is_counting = False
        assert response.is_success
        return self.files - NOT_OF_THE_REQUEST


@pytest.fixture(scope="module")
def traced():
    trace = Trace()
    threading.setprofile(trace)
    try:
        with serving(echo_app()) as url, httpx.Client(base_url=url, timeout=30) as client:
            wait_until_healthy(url)
            yield trace, client
    finally:
        threading.setprofile(None)


@pytest.mark.parametrize(
    ("request_parts", "max_files"),
    [
        pytest.param(
            {"json": {"instruction": "go", "image": of_one_colour(90, 90, 90)}}, MAX_FILES_OF_AN_IMAGE, id="image"
        ),
        pytest.param({"json": {"instruction": "go", "xml_string": SCENE}}, MAX_FILES_OF_A_SCENE, id="scene"),
    ],
)
def test_a_request_goes_through_few_files(traced, request_parts, max_files):
    trace, client = traced
    files = trace.of(lambda: client.post("/predict", **request_parts))
    assert {"server/predict.py", "engine/engine.py"} <= files, "the trace sees the server"
    assert len(files) <= max_files, sorted(files)


def test_an_image_needs_no_file_of_scenes_or_sessions_state(traced):
    trace, client = traced
    files = trace.of(lambda: client.post("/predict", data={"instruction": "go"}, files={"image": IMAGE_FILE}))
    assert not [file for file in files if file.startswith(("scenes/", "protocols/", "episodes/"))]
    assert not files & {"sessions/session.py", "sessions/registry.py", "schemas/arm.py", "schemas/state.py"}
