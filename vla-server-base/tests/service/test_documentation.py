"""The documents in docs/ are true: they name everything, and their examples come out as printed."""

import ast
import inspect
import json
import re
import shlex
from pathlib import Path

import httpx
import pytest

from vla_server_base import config, errors, replies, wire
from vla_server_base.routes import router

DOCS = Path(__file__).parents[3] / "docs"
HTTP = (DOCS / "http.md").read_text()
CONFIGURATION = (DOCS / "configuration.md").read_text()

# A command in a `sh` block and what it answers, in the `json` block right after it.
EXAMPLES = re.findall(r"```sh\n(curl (?:(?!```).)*)\n```\n+```json\n(.*?)\n```", HTTP, re.DOTALL)
KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.VLAError)]
UNKNOWN = [f"unknown_{what}" for what in ("camera", "dataset", "action_format", "scene", "robot", "keyframe")]
CODES = sorted({kind.code for kind in KINDS}.union(UNKNOWN))


@pytest.mark.parametrize("path", [route.path for route in router.routes])
def test_every_route_is_described(path):
    assert re.search(rf"^## `(GET|POST) {re.escape(path)}`$", HTTP, re.MULTILINE)


@pytest.mark.parametrize("field", [*wire.PredictRequest.model_fields, *wire.StateBody.model_fields])
def test_every_field_of_a_request_is_described(field):
    assert f"| `{field}` |" in HTTP


@pytest.mark.parametrize(
    "key", [*replies.PredictReply.model_fields, *replies.Timing.model_fields, *replies.InfoReply.model_fields]
)
def test_every_key_of_a_reply_is_described(key):
    assert f"| `{key}` |" in HTTP


@pytest.mark.parametrize("code", CODES)
def test_every_error_is_described_with_an_example(code):
    assert re.search(rf"^### `{code}` \(\d+\)$", HTTP, re.MULTILINE)
    assert f'"code": "{code}"' in HTTP


def settings() -> list[tuple[str, str]]:
    """Every setting's name and docstring, as they stand in the source."""
    (definition,) = ast.parse(inspect.getsource(config.ServerConfig)).body
    body = definition.body[1:]
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
    for name in ("request_id", "timing_ms", "versions", "renderer", "renderers_tried", "limits"):
        if name in reply:
            reply[name] = f"<{name}>"
    return reply
