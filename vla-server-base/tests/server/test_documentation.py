"""The documents in docs/ are true: they name everything, and their examples come out as printed."""

import ast
import inspect
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, cast, get_args

import httpx
import pytest
from starlette.routing import Route, WebSocketRoute

from vla_server_base import config, errors
from vla_server_base.scenes.robots import ROBOT_NAMES
from vla_server_base.schemas.arm import BoundsField, ControlField, RobotField
from vla_server_base.schemas.execute import ExecuteRequest
from vla_server_base.schemas.execute_reply import EndEvent, ExecuteReply, StepEvent, StepReply
from vla_server_base.schemas.load import LoadReply
from vla_server_base.schemas.predict import PredictRequest
from vla_server_base.schemas.predict_reply import PredictReply, Timing
from vla_server_base.schemas.scene import SceneRequest
from vla_server_base.schemas.session_events import AnsweredStepEvent
from vla_server_base.schemas.session_reply import SessionStatusReply
from vla_server_base.schemas.state import StateField
from vla_server_base.schemas.status import InfoReply
from vla_server_base.schemas.success import InContact, JointRange, Lifted, Measured, Near
from vla_server_base.schemas.tabletop import TaskReply, TrialReply
from vla_server_base.server import load, login, metrics, models, routes, session_events, tabletop
from vla_server_base.server.transports import act, kserve

DOCS = Path(__file__).parents[3] / "docs"
HTTP = (DOCS / "http.md").read_text()
EPISODES = (DOCS / "episodes.md").read_text()
CLIENTS = (DOCS / "clients.md").read_text()
CONFIGURATION = (DOCS / "configuration.md").read_text()

# A command in a `sh` block and what it answers, in the `json` block right after it.
EXAMPLES = re.findall(r"```sh\n(curl (?:(?!```).)*)\n```\n+```json\n(.*?)\n```", HTTP, re.DOTALL)
KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.VLAError)]
UNKNOWN = [
    f"unknown_{what}" for what in ("camera", "dataset", "action_format", "scene", "robot", "task", "keyframe", "model")
]
CODES = sorted({kind.code for kind in KINDS}.union(UNKNOWN))
IN_THE_ARM = [f"unknown_{what}" for what in ("robot_name", "joint", "actuator", "site_or_body", "body")]

EPISODE_FIELDS = [
    *(name for kind in (RobotField, ControlField, BoundsField) for name in kind.model_fields),
    *sorted(ExecuteRequest.model_fields.keys() - SceneRequest.model_fields),
]
ROOMS = (routes, session_events, load, login, metrics, models, tabletop)
ROUTES = [route for room in ROOMS for route in room.router.routes]
PATHS = [route.path for route in ROUTES if isinstance(route, Route | WebSocketRoute)]
EPISODE_KEYS = {name for kind in (ExecuteReply, StepReply, StepEvent) for name in kind.model_fields}


@pytest.mark.parametrize("path", [path.replace(":path", "") for path in PATHS])
def test_every_route_is_described(path):
    assert re.search(rf"^## `(GET|POST|PUT|DELETE) {re.escape(path)}`$", HTTP, re.MULTILINE)


@pytest.mark.parametrize("route", [*act.router.routes, *kserve.router.routes], ids=lambda route: route.path)
def test_every_route_of_clients_is_described(route):
    (method,) = route.methods
    assert f"`{method} {route.path}`" in CLIENTS


@pytest.mark.parametrize("field", [*PredictRequest.model_fields, *StateField.model_fields])
def test_every_field_of_a_request_is_described(field):
    assert f"| `{field}` |" in HTTP


@pytest.mark.parametrize("key", [*PredictReply.model_fields, *Timing.model_fields, *InfoReply.model_fields])
def test_every_key_of_a_reply_is_described(key):
    assert f"| `{key}` |" in HTTP


@pytest.mark.parametrize("key", [*LoadReply.model_fields, *AnsweredStepEvent.model_fields])
def test_every_key_of_what_a_page_shows_is_described(key):
    assert re.search(rf"^\| (`\w+`, )*`{key}`(, `\w+`)* \|", HTTP, re.MULTILINE)


@pytest.mark.parametrize("key", SessionStatusReply.model_fields)
def test_every_key_of_a_session_is_in_the_example(key):
    (example,) = re.findall(r"## `GET /sessions`\n.*?```\n(\{.*?)```", HTTP, re.DOTALL)
    assert f'"{key}": ' in example


@pytest.mark.parametrize(
    ("route", "key"),
    [
        (f"/tasks{rest}", key)
        for kind, rest in ((TaskReply, ""), (TrialReply, "/{name}/trials/{seed}"))
        for key in kind.model_fields
    ],
)
def test_every_key_of_a_task_is_in_the_example(route, key):
    (section,) = re.findall(rf"^## `GET {re.escape(route)}`$(.*?)^## ", HTTP, re.DOTALL | re.MULTILINE)
    assert f'"{key}": ' in section


@pytest.mark.parametrize("field", EPISODE_FIELDS)
def test_every_field_of_an_episode_is_described(field):
    assert f"| `{field}` |" in EPISODES


@pytest.mark.parametrize("key", sorted(EPISODE_KEYS | set(EndEvent.model_fields)))
def test_every_key_of_an_episode_is_described(key):
    assert f"`{key}`" in EPISODES


@pytest.mark.parametrize("kind", [Lifted, Near, InContact, JointRange, Measured])
def test_every_predicate_is_described(kind):
    (name,) = get_args(kind.model_fields["kind"].annotation)
    (line,) = re.findall(rf"^\| `{name}` \|.*$", EPISODES, re.MULTILINE)
    assert all(f"`{field}`" in line for field in kind.model_fields.keys() - {"kind"})


@pytest.mark.parametrize("robot", ROBOT_NAMES)
def test_every_known_robot_is_named(robot):
    assert f"`{robot}`" in EPISODES


@pytest.mark.parametrize("page", ["episodes", "tabletop", "evaluation", "datasets"])
def test_a_pages_script_prints_what_it_says(page, tmp_path):
    ((code, printed),) = re.findall(r"```python\n(.*?)```\n```\n(.*?)```", (DOCS / f"{page}.md").read_text(), re.DOTALL)
    script = tmp_path / "script.py"
    script.write_text(code)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout == printed, done.stderr


def test_the_names_an_arm_lacks_are_described():
    (title,) = [line for line in HTTP.splitlines() if line.startswith("### `unknown_robot_name`")]
    assert re.findall(r"`(unknown_\w+)`", title) == IN_THE_ARM


@pytest.mark.parametrize("code", CODES)
def test_every_error_is_described_with_an_example(code):
    assert re.search(rf"^### `{code}` \(\d+\)$", HTTP, re.MULTILINE)
    assert f'"code": "{code}"' in HTTP


def settings() -> list[tuple[str, str]]:
    """Every setting's name and docstring, as they stand in the source."""
    (definition,) = ast.parse(inspect.getsource(config.ServerConfig)).body
    body = [cast(Any, each) for each in cast(Any, definition).body[1:] if isinstance(each, ast.AnnAssign | ast.Expr)]
    return [(field.target.id, text.value.value) for field, text in zip(body[::2], body[1::2], strict=True)]


@pytest.mark.parametrize(("name", "description"), settings())
def test_every_setting_is_described_in_its_own_words(name, description):
    assert re.search(rf"^\| `VLA_{name.upper()}` \| [^|]+ \| {re.escape(description)} \|$", CONFIGURATION, re.MULTILINE)


@pytest.mark.parametrize(("command", "printed"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_answers_what_is_printed(client, command, printed):
    assert settled(ask(client, command)) == settled(json.loads(printed))


def ask(client: httpx.Client, command: str):
    """Send what a curl command sends."""
    words = shlex.split(command.replace("\\\n", " "))
    (path,) = (word.removeprefix("localhost:8002") for word in words if word.startswith("localhost:8002"))
    options = {option: words[words.index(option) + 1] for option in ("-H", "-d", "-X") if option in words}
    headers = dict([options["-H"].split(": ")]) if "-H" in options else {}
    method = options.get("-X", "POST" if "-d" in options else "GET")
    return client.request(method, path, content=options.get("-d"), headers=headers).json()


def settled(reply):
    """A reply without what differs each time: ids, times, versions, what a machine can draw with."""
    varying = (
        "request_id",
        "timing_ms",
        "versions",
        "code_sha256",
        "renderer",
        "renderers_tried",
        "confinement",
        "limits",
    )
    for name in varying:
        if name in reply:
            reply[name] = f"<{name}>"
    return reply
