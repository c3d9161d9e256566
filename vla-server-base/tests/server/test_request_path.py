"""How many files of the server one POST /predict goes through, so that a reader can follow it.

A file counts when any function in it is called on any thread of the server's process, from the call of the app with a
request until its log line is written; a first request has warmed everything up. Five things do not count:

- the connection layer below the app, which serves bytes of any request: `server/sockets.py` and `server/traffic.py`;
- the policy: the echo adapter, and the defaults of `VLAModelAdapter` that it inherits;
- `monitoring/`, to which the others report: it counts and decides nothing;
- the files of `fairness/` after the first: they say together in which order requests are served;
- the worker that renders scenes, which is another process.

A loop that runs all the time, such as the device thread's, is not called by a request; what it calls for one counts.
The bounds are what requests reach today, one of them because a policy may run elsewhere: `engine/engine.py` is what a
server knows of it, and `engine/in_process.py` where it runs. A scene needs the files of an image, its fields, and the
way to a worker.
"""

import base64
import threading
import time
from pathlib import Path

import httpx
import pytest
from echo_server import echo_app, of_one_colour, wait_until, wait_until_healthy

import vla_server_base
from vla_server_base.server.uvicorn_server import serving

ROOT = Path(vla_server_base.__file__).parent
CONNECTIONS = {"server/sockets.py", "server/traffic.py"}
POLICY = {"testing/echo.py", "adapter.py"}
MAX_FILES_OF_AN_IMAGE, MAX_FILES_OF_A_SCENE = 13, 21
SETTLE_S = 0.2
"""A client has its reply before the server has written the log line and released the worker."""
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
        """Return the files of the second of two requests."""
        assert request().is_success
        time.sleep(SETTLE_S)
        self.files.clear()
        self.is_counting = True
        response = request()
        time.sleep(SETTLE_S)
        self.is_counting = False
        assert response.is_success
        counted = {file for file in self.files - CONNECTIONS - POLICY if not file.startswith("monitoring/")}
        return {"fairness/" if file.startswith("fairness/") else file for file in counted}


@pytest.fixture(scope="module")
def traced():
    trace = Trace()
    threading.setprofile(trace)
    try:
        app = echo_app()
        with serving(app) as url, httpx.Client(base_url=url, timeout=30) as client:
            wait_until_healthy(url)
            # A worker that starts during a request would count; there is one more than may be busy.
            wait_until(lambda: len(app.state.service.pool.workers.idle) > app.state.service.config.scene_workers)
            yield trace, client
    finally:
        threading.setprofile(None)


def test_an_image_needs_no_file_of_scenes_or_sessions_state(traced):
    trace, client = traced
    files = trace.of(lambda: client.post("/predict", data={"instruction": "go"}, files={"image": IMAGE_FILE}))
    assert not [file for file in files if file.startswith(("scenes/", "protocols/", "episodes/"))]
    assert not files & {"sessions/session.py", "sessions/registry.py", "schemas/arm.py", "schemas/state.py"}


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
