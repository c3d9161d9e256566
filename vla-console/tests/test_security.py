"""What a page of another origin gets of a server, in a real browser: nothing; and nothing moves."""

import base64
import http.server
import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route
from programs import PolicyServer, console_program, wait_until
from robots import HttpRobot, Observation, http_robot, tabletop

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
READS = ("GET", "HEAD")
NEEDS_NO_PREFLIGHT = (*READS, "POST")
SHA256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
"""Of the three bytes abc."""
RUN = '{"instruction": "wave", "scene_id": "SCENE", "max_steps": 2}'
BLACK = {"__numpy__": base64.b64encode(bytes(8 * 8 * 3)).decode(), "dtype": "uint8", "shape": [8, 8, 3]}
ASK = '{"instruction": "wave", "scene_id": "SCENE", "session_id": "arm"}'
ACT = json.dumps({"image": BLACK, "instruction": "wave"})
QUERY = json.dumps({"use_this": json.dumps({"observation": {"image": BLACK}, "instruction": "wave"})})
CHANGES = {
    "run an episode": ("POST", "/execute", JSON, RUN),
    "describe a scene": ("POST", "/scenes/geometry", JSON, '{"scene_id": "SCENE"}'),
    "ask the policy in a robot's session": ("POST", "/predict", JSON, ASK),
    "ask the policy as OpenVLA's clients do": ("POST", "/act", JSON, ACT),
    "ask the policy as the old Octo server's do": ("POST", "/query", JSON, QUERY),
    "reset": ("POST", "/reset", "", None),
    "change an episode": ("PATCH", "/episodes/{episode_id}", JSON, '{"steps": 1}'),
    "stop an episode": ("DELETE", "/episodes/{episode_id}", "", None),
    "end a session": ("DELETE", "/sessions/{session_id}", "", None),
    "upload a file": ("PUT", "/assets/{sha256}", "application/octet-stream", "abc"),
    "serve a model": ("POST", "/models/{model_id}/serve", JSON, "{}"),
    "load a model": ("POST", "/models", JSON, '{"model": "bundled://tabletop", "id": "theirs", "mode": "hold"}'),
    "unload a model": ("DELETE", "/models/{model_id}", "", None),
    "begin an episode": ("POST", "/episodes", JSON, RUN),
}
"""Requests that show what they are able to where they are allowed; a path is one of the server's description."""
LEAVE_NOTHING = ["run an episode", "describe a scene"]
"""What is answered, and leaves the server as it was."""
LOGINS = {"log in": ("POST", "/login", "", None), "log out": ("POST", "/logout", "", None)}
"""test_login.py has what they are able to."""
ATTACKS = {
    **CHANGES,
    **LOGINS,
    "begin an episode as text": ("POST", "/episodes", "text/plain", RUN),
    "run an episode by a form": ("POST", "/execute", FORM, "instruction=wave&scene_id=SCENE"),
    "read the page": ("GET", "/", "", None),
    "read the script": ("GET", "/console/console.js", "", None),
    "read the description": ("GET", "/openapi.json", "", None),
    "read the documentation": ("GET", "/docs", "", None),
}

FETCH = """async ([url, method, type, body, mode]) => {
  try {
    const reply = await fetch(url, {
      method, mode, body, credentials: "include", headers: type ? {"Content-Type": type} : {},
    });
    return reply.type === "opaque" ? "opaque" : `${reply.status} ${(await reply.text()).slice(0, 80)}`;
  } catch (error) {
    return error.name;
  }
}"""
SOCKET = """url => new Promise(resolve => {
  const socket = new WebSocket(url);
  socket.onopen = () => resolve("open");
  socket.onmessage = () => resolve("message");
  socket.onclose = () => resolve("closed");
})"""
EVENTS = """url => new Promise(resolve => {
  const events = new EventSource(url);
  for (const name of ["start", "step", "session", "message"]) events.addEventListener(name, () => resolve(name));
  events.onerror = () => resolve(events.readyState === EventSource.CLOSED ? "closed" : "connecting");
})"""
LOAD = """([tag, attribute, url, more]) => new Promise(resolve => {
  const element = Object.assign(document.createElement(tag), {[attribute]: url, ...more});
  element.onload = () => resolve("loaded");
  element.onerror = () => resolve("refused");
  document.body.append(element);
})"""


class Blank(http.server.BaseHTTPRequestHandler):
    """The attacker's web server: an empty page at every address."""

    def do_GET(self) -> None:
        page = b"<!doctype html><link rel=icon href=data:,><title>attacker</title>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_args: Any, **_kwargs: Any) -> None:
        pass


@pytest.fixture(scope="module")
def attacker() -> Iterator[str]:
    """The origin of the attacker's page."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Blank) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def console(server: PolicyServer) -> Iterator[str]:
    """The address of `vla-console` that shows the server."""
    with console_program(server.url) as (url, _):
        yield url


def described(url: str, **headers: str) -> list[tuple[str, str]]:
    """Each method and path in a server's description of itself."""
    paths = httpx.get(f"{url}/openapi.json", headers=headers).json()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def filled(path: str, **ids: str) -> str:
    """Return a path of the description with these ids; 0 in the place of the others."""
    return re.sub(r"{(\w+)}", lambda name: ids.get(name[1], "0"), path)


class Victim:
    """A server with a robot that is connected, a paused episode and a second model, all of which may be moved."""

    def __init__(self, url: str, robot: HttpRobot, images: Observation):
        self.url, self._client = url, httpx.Client(base_url=url, timeout=60)
        robot.act(images)
        body = {"instruction": "wave", "xml_string": tabletop(url), "max_steps": 9, "paused": True}
        reply = self._client.post("/episodes", json=body).json()
        self.episode, self._scene = reply["episode_id"], reply["start"]["scene_id"]
        self._hold_spare()
        self._serving = self.facts()["serving"]

    def _hold_spare(self) -> None:
        if self._client.get("/models/spare").status_code == 404:
            self._client.post("/models", json={"model": "bundled://tabletop", "id": "spare", "mode": "hold"})
            wait_until(lambda: self._client.get("/models/spare").json()["state"] == "ready")

    def attack(self, base: str, name: str) -> list[str | None]:
        """Return the URL, the method, the content type and the body of an attack at an address."""
        method, path, content_type, body = ATTACKS[name]
        return [base + self._filled(path), method, content_type, body and body.replace("SCENE", self._scene)]

    def attacks(self, base: str) -> dict[str, list[str | None]]:
        """Return all attacks at an address, and a request to each route that is there to be read."""
        reads = [(method, path) for method, path in described(self.url) if method in READS]
        return {
            **{name: self.attack(base, name) for name in ATTACKS},
            **{f"{method} {path}": [base + self._filled(path), method, "", None] for method, path in reads},
        }

    def _filled(self, path: str) -> str:
        return filled(path, episode_id=self.episode, session_id="arm", sha256=SHA256, model_id="spare")

    def facts(self) -> dict[str, Any]:
        """Everything that a request may change."""
        episodes, sessions, models = (self._client.get(path).json() for path in ("/episodes", "/sessions", "/models"))
        return {
            # The console's pages have episodes of their own, the previews, which they begin when they are open.
            "episodes": [each for each in episodes["episodes"] if each["instruction"] == "wave"],
            "sessions": {each["id"]: (each["instruction"], each["step"]) for each in sessions["sessions"]},
            "asset": self._client.head(f"/assets/{SHA256}").status_code,
            "models": [each["id"] for each in models["models"]],
            "serving": models["serving"],
        }

    def roll_back(self) -> None:
        """Have the first model serve again."""
        self._client.post(f"/models/{self._serving}/serve", json={})

    def close(self) -> None:
        for path in (f"/episodes/{self.episode}", "/sessions/act:127.0.0.1", "/models/theirs"):
            self._client.delete(path)
        self._client.close()


@pytest.fixture
def victim(server: PolicyServer, observations: list[Observation]) -> Iterator[Victim]:
    with http_robot(server.url, "arm") as robot:
        victim = Victim(server.url, robot, observations[0])
        yield victim
        victim.close()


@pytest.fixture(scope="module")
def foreign(browser: Browser, attacker: str) -> Iterator[Page]:
    """A tab with the attacker's page."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(attacker)
    yield page
    context.close()


def test_each_route_that_changes_something_is_attacked(server: PolicyServer):
    changing = {(method, path) for method, path in described(server.url) if method not in READS}
    assert {(method, path) for method, path, *_ in (*CHANGES.values(), *LOGINS.values())} == changing


def test_a_foreign_page_reads_nothing_and_moves_nothing(foreign: Page, victim: Victim, console: str):
    before = victim.facts()
    for base in (victim.url, f"{console}/servers/0"):
        for name, request in victim.attacks(base).items():
            assert foreign.evaluate(FETCH, [*request, "cors"]) == "TypeError", name
            assert victim.facts() == before, name


def test_a_request_that_needs_no_preflight_is_refused_too(foreign: Page, victim: Victim, console: str):
    before = victim.facts()
    for base in (victim.url, f"{console}/servers/0"):
        for name, request in victim.attacks(base).items():
            if request[1] in NEEDS_NO_PREFLIGHT:
                with foreign.expect_response(str(request[0])) as response:
                    assert foreign.evaluate(FETCH, [*request, "no-cors"]) == "opaque", name
                assert response.value.status == 403, name
                assert victim.facts() == before, name


@pytest.mark.parametrize("encoding", ["text/plain", FORM, "multipart/form-data"])
def test_a_foreign_form_is_refused(foreign: Page, attacker: str, victim: Victim, encoding: str):
    before = victim.facts()
    fields = {json.dumps({"instruction": "wave", "max_steps": 2})[:-1] + ', "x": "': '"}'}
    with foreign.expect_navigation() as navigation:
        foreign.evaluate(
            """([action, enctype, fields]) => {
              const form = Object.assign(document.createElement("form"), {action, enctype, method: "post"});
              for (const [name, value] of Object.entries(fields)) {
                form.append(Object.assign(document.createElement("input"), {name, value}));
              }
              document.body.append(form);
              form.submit();
            }""",
            [f"{victim.url}/episodes", encoding, fields],
        )
    assert navigation.value.status == 403
    assert victim.facts() == before
    foreign.goto(attacker)


def test_a_foreign_page_reads_no_events(foreign: Page, page: Page, victim: Victim):
    for path in (f"/episodes/{victim.episode}/events", "/sessions/arm/events"):
        assert foreign.evaluate(EVENTS, victim.url + path) == "closed"
        assert page.evaluate(EVENTS, victim.url + path) in ("start", "session"), "the server's own page may"


@pytest.mark.parametrize("path", ["/", "/vla-eval"])
def test_a_foreign_page_opens_no_websocket(foreign: Page, page: Page, victim: Victim, path: str):
    address = victim.url.replace("http", "ws", 1) + path
    before = victim.facts()
    assert foreign.evaluate(SOCKET, address) == "closed"
    assert victim.facts() == before
    assert page.evaluate(SOCKET, address) in ("open", "message"), "the server's own page may"


@pytest.mark.parametrize(
    ("tag", "attribute", "path", "more"),
    [
        ("script", "src", "/console/console.js", {"type": "module"}),
        ("link", "href", "/console/console.css", {"rel": "stylesheet"}),
    ],
    ids=["script", "style sheet"],
)
def test_a_foreign_page_loads_no_file(
    foreign: Page, page: Page, server: PolicyServer, tag: str, attribute: str, path: str, more: dict[str, str]
):
    element = [tag, attribute, server.url + path, more]
    assert foreign.evaluate(LOAD, element) == "refused"
    assert page.evaluate(LOAD, element) == "loaded", "the server's own page may"


def test_a_foreign_page_cannot_frame_the_console(foreign: Page, victim: Victim, console: str):
    for url in (victim.url, console):
        with foreign.expect_response(f"{url}/") as response:
            foreign.evaluate(LOAD, ["iframe", "src", f"{url}/", {}])
        assert response.value.status == 403
        assert "VLA console" not in foreign.frames[-1].content()


def test_a_rebound_name_gets_nothing_and_moves_nothing(browser: Browser, victim: Victim):
    """The attacker's page came from its own server; now its name leads here, and its port is the victim's."""
    origin = victim.url.replace("127.0.0.1", "rebound.example")
    context = browser.new_context()
    page = context.new_page()

    def answer(route: Route) -> None:
        route.fulfill(body="<link rel=icon href=data:,>", content_type="text/html")

    page.route(f"{origin}/attack", answer)
    page.goto(f"{origin}/attack")
    before = victim.facts()
    for name, request in victim.attacks(origin).items():
        assert page.evaluate(FETCH, [*request, "cors"]).startswith("403 "), name
    assert page.evaluate(SOCKET, origin.replace("http", "ws", 1) + "/") == "closed"
    visit = page.goto(origin)
    assert visit is not None
    assert visit.status == 403
    assert victim.facts() == before
    context.close()


def test_the_servers_own_page_may_read_each_of_them(page: Page, victim: Victim, problems: list[str]):
    for name, request in victim.attacks(victim.url).items():
        if request[1] in READS and not name.endswith("/events"):
            assert page.evaluate(FETCH, [*request, "cors"])[:3] in ("200", "404"), name
    problems[:] = [each for each in problems if "404" not in each]


def test_the_same_requests_of_the_servers_own_page_have_their_effect(page: Page, victim: Victim):
    for name in CHANGES:
        before = victim.facts()
        result = page.evaluate(FETCH, [*victim.attack(victim.url, name), "cors"])
        assert result.startswith("20"), (name, result)
        assert (victim.facts() == before) == (name in LEAVE_NOTHING), name
        victim.roll_back()
