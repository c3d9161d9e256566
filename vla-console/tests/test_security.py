"""What a page of another origin gets of a server, in a real browser: nothing; and nothing moves."""

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route
from programs import PolicyServer, console_program
from robots import HttpRobot, Observation, http_robot, tabletop

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
SHA256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
"""Of the three bytes abc."""
RUN = '{"instruction": "wave", "scene_id": "SCENE", "max_steps": 2}'
ATTACKS = {
    "begin an episode": ("POST", "/episodes", JSON, RUN),
    "begin an episode as text": ("POST", "/episodes", "text/plain", RUN),
    "run an episode": ("POST", "/execute", JSON, RUN),
    "run an episode by a form": ("POST", "/execute", FORM, "instruction=wave&scene_id=SCENE"),
    "ask the policy in a robot's session": ("POST", "/predict", JSON, '{"session_id": "arm", "scene_id": "SCENE"}'),
    "ask the policy as OpenVLA's clients do": ("POST", "/act", "text/plain", '{"instruction": "wave"}'),
    "reset": ("POST", "/reset", "text/plain", "{}"),
    "change an episode": ("PATCH", "/episodes/EPISODE", JSON, '{"steps": 1}'),
    "stop an episode": ("DELETE", "/episodes/EPISODE", "", None),
    "end a session": ("DELETE", "/sessions/arm", "", None),
    "upload a file": ("PUT", f"/assets/{SHA256}", "application/octet-stream", "abc"),
    "upload a scene": ("POST", "/scenes/geometry", JSON, '{"scene_id": "SCENE"}'),
    "list the episodes": ("GET", "/episodes", "", None),
    "list the sessions": ("GET", "/sessions", "", None),
    "watch a robot": ("GET", "/sessions/arm/events", "", None),
    "read the page": ("GET", "/", "", None),
    "read the script": ("GET", "/console/console.js", "", None),
}
EFFECTIVE = ["begin an episode", "run an episode", "change an episode", "stop an episode", "end a session"]
"""Attacks that show what they are able to where they are allowed."""

FETCH = """async ([url, method, type, body, mode]) => {
  try {
    const reply = await fetch(url, {method, mode, body, headers: type ? {"Content-Type": type} : {}});
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


class Victim:
    """A server with a robot that is connected and a paused episode: what an attacker would like to move."""

    def __init__(self, url: str, robot: HttpRobot, images: Observation):
        self.url, self._client = url, httpx.Client(base_url=url, timeout=60)
        robot.act(images)
        body = {"instruction": "wave", "xml_string": tabletop(url), "max_steps": 9, "paused": True}
        reply = self._client.post("/episodes", json=body).json()
        self.episode, self._scene = reply["episode_id"], reply["start"]["scene_id"]

    def attack(self, name: str) -> tuple[str, str, str, str | None]:
        """Return the attack's method, path, content type and body, with this victim's ids."""
        method, path, content_type, body = ATTACKS[name]
        path = path.replace("EPISODE", self.episode)
        return method, path, content_type, body and body.replace("SCENE", self._scene)

    def facts(self) -> dict[str, Any]:
        """Everything that a request may change."""
        sessions = self._client.get("/sessions").json()["sessions"]
        return {
            "episodes": self._client.get("/episodes").json(),
            "sessions": {session["id"]: session["step"] for session in sessions},
            "asset": self._client.head(f"/assets/{SHA256}").status_code,
        }

    def close(self) -> None:
        self._client.delete(f"/episodes/{self.episode}")
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


@pytest.mark.parametrize("name", ATTACKS)
def test_a_foreign_page_reads_nothing_and_moves_nothing(foreign: Page, victim: Victim, console: str, name: str):
    method, path, content_type, body = victim.attack(name)
    before = victim.facts()
    for base in (victim.url, f"{console}/servers/0"):
        assert foreign.evaluate(FETCH, [base + path, method, content_type, body, "cors"]) == "TypeError"
    assert victim.facts() == before


@pytest.mark.parametrize("name", [name for name, (method, *_) in ATTACKS.items() if method in ("GET", "POST")])
def test_a_request_that_needs_no_preflight_is_refused_too(foreign: Page, victim: Victim, console: str, name: str):
    method, path, content_type, body = victim.attack(name)
    before = victim.facts()
    for base in (victim.url, f"{console}/servers/0"):
        with foreign.expect_response(base + path) as response:
            assert foreign.evaluate(FETCH, [base + path, method, content_type, body, "no-cors"]) == "opaque"
        assert response.value.status == 403
    assert victim.facts() == before


@pytest.mark.parametrize("name", EFFECTIVE)
def test_the_same_request_of_the_servers_own_page_has_its_effect(page: Page, victim: Victim, name: str):
    method, path, content_type, body = victim.attack(name)
    before = victim.facts()
    result = page.evaluate(FETCH, [victim.url + path, method, content_type, body, "cors"])
    assert result.startswith("20"), result
    assert name == "run an episode" or victim.facts() != before


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


def test_a_foreign_page_reads_no_events(foreign: Page, victim: Victim):
    for path in (f"/episodes/{victim.episode}/events", "/sessions/arm/events"):
        assert foreign.evaluate(EVENTS, victim.url + path) == "closed"


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
    for name in ATTACKS:
        method, path, content_type, body = victim.attack(name)
        assert page.evaluate(FETCH, [origin + path, method, content_type, body, "cors"]).startswith("403 "), name
    assert page.evaluate(SOCKET, origin.replace("http", "ws", 1) + "/") == "closed"
    visit = page.goto(origin)
    assert visit is not None
    assert visit.status == 403
    assert victim.facts() == before
    context.close()
