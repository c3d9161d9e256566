"""`vla-console URL`: what passes between the page and servers elsewhere, over real sockets."""

import contextlib
import hashlib
from collections.abc import Iterator

import httpx
import pytest
from programs import console_program, free_port, wait_until
from small_server import NUM_PARTS, PART, SmallServer, small_server


@pytest.fixture(scope="module")
def server() -> Iterator[SmallServer]:
    with small_server() as server:
        yield server


@pytest.fixture(scope="module")
def gone() -> str:
    """The address of a server that does not run."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def url(server: SmallServer, gone: str) -> Iterator[str]:
    """A console that shows both."""
    with console_program(server.url, gone) as (url, _):
        yield url


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client


def error_of(response: httpx.Response) -> dict[str, str]:
    reply = response.json()
    assert reply.keys() == {"error", "request_id"}
    assert reply["error"].keys() == {"code", "message", "hint"}
    return reply["error"]


def test_the_page_lists_the_servers_by_model_and_address(client: httpx.Client, server: SmallServer, gone: str):
    assert 'src="console/console.js"' in client.get("/").text
    assert client.get("/console/servers.json").json()["servers"] == [
        {"name": f"small at 127.0.0.1:{server.port}", "base": "/servers/0/"},
        {"name": gone.removeprefix("http://"), "base": "/servers/1/"},
    ]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_a_request_reaches_the_server_as_it_was_written(client: httpx.Client, server: SmallServer, method: str):
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "7", "X-Request-Id": "abc", "Content-Type": "a/b"}
    body = b"{}" if method != "GET" else b""
    seen = client.request(method, "/servers/0/a%2Fb/c%20d?after=3&e=%C3%A9", content=body, headers=headers).json()
    assert (seen["method"], seen["path"], seen["query"]) == (method, "/a%2Fb/c%20d", "after=3&e=%C3%A9")
    assert seen["num_bytes"] == len(body)
    assert {name: seen["headers"][name.lower()] for name in headers} == headers
    assert seen["headers"]["host"] == f"127.0.0.1:{server.port}"


def test_what_is_the_browsers_alone_stays_here(client: httpx.Client, url: str):
    own = {"Origin": url, "Referer": f"{url}/", "Cookie": "a=b", "Sec-Fetch-Site": "same-origin"}
    seen = client.post("/servers/0/predict", json={}, headers=own).json()["headers"]
    assert {"origin", "referer", "cookie", "sec-fetch-site"} & seen.keys() == set()
    assert "set-cookie" not in client.get("/servers/0/refusal").headers


def test_a_large_body_arrives_whole(client: httpx.Client):
    body = PART * NUM_PARTS
    for content in (body, iter([PART] * NUM_PARTS)):
        seen = client.post("/servers/0/predict", content=content).json()
        assert (seen["num_bytes"], seen["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())


def test_a_large_answer_arrives_whole(client: httpx.Client):
    assert client.get("/servers/0/large").content == PART * NUM_PARTS


def test_a_refusal_of_the_server_stays_as_it_is(client: httpx.Client):
    response = client.get("/servers/0/refusal")
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.json() == {"error": {"code": "overloaded"}}


def test_a_page_of_a_server_has_no_rights_here(client: httpx.Client):
    assert client.get("/servers/0/page").headers["content-security-policy"] == "sandbox"


def test_events_come_when_they_are_sent():
    with (
        small_server() as server,
        console_program(server.url) as (url, _),
        httpx.stream("GET", f"{url}/servers/0/events", timeout=60) as response,
    ):
        lines = response.iter_lines()
        assert response.headers["content-type"].startswith("text/event-stream")
        assert next(lines) == "data: first"
        server.send_next.set()
        assert "data: second" in list(lines)


def test_a_server_sees_that_the_browser_has_left():
    with small_server() as server, console_program(server.url) as (url, _):
        with httpx.stream("GET", f"{url}/servers/0/events", timeout=60) as response:
            next(response.iter_lines())
            assert not server.reader_left.is_set()
        wait_until(server.reader_left.is_set)


def test_a_server_that_does_not_answer_is_an_error_that_says_so(client: httpx.Client, gone: str):
    response = client.post("/servers/1/predict", json={})
    assert response.status_code == 502
    error = error_of(response)
    assert error["code"] == "server_unreachable"
    assert error["message"].startswith(f"the server at {gone} does not answer: ")
    assert "start the server" in error["hint"]


def test_a_server_that_ends_breaks_its_stream_and_is_reached_again_when_it_is_back():
    running = contextlib.ExitStack()
    server = running.enter_context(small_server())
    with running, console_program(server.url) as (url, _):
        with httpx.stream("GET", f"{url}/servers/0/events", timeout=60) as response:
            lines = response.iter_lines()
            assert next(lines) == "data: first"
            running.close()
            with pytest.raises(httpx.RemoteProtocolError):
                list(lines)
        assert httpx.get(f"{url}/servers/0/health").status_code == 502
        with small_server(server.port):
            assert httpx.get(f"{url}/servers/0/health").json() == {"model": "small"}


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/servers/2/health", 404, "not_found"),
        ("GET", "/servers/first/health", 404, "not_found"),
        ("GET", "/console/missing.js", 404, "not_found"),
        ("GET", "/elsewhere", 404, "not_found"),
        ("POST", "/console/console.js", 405, "method_not_allowed"),
        ("OPTIONS", "/servers/0/health", 405, "method_not_allowed"),
    ],
)
def test_what_is_not_there_is_an_error_in_our_form(
    client: httpx.Client, method: str, path: str, status: int, code: str
):
    response = client.request(method, path)
    assert (response.status_code, error_of(response)["code"]) == (status, code)


PATHS = ["/", "/console/console.js", "/console/servers.json", "/servers/0/health", "/servers/0/predict"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "127.0.0.1@evil.example"},
        {"Host": "robot"},
    ],
    ids=str,
)
def test_a_page_of_another_origin_gets_nothing(client: httpx.Client, path: str, headers: dict[str, str]):
    response = client.get(path, headers=headers)
    assert response.status_code == 403
    assert error_of(response)["code"] == "forbidden"


def test_its_own_page_and_programs_are_answered(client: httpx.Client, url: str):
    own = {"Origin": url, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    assert client.post("/servers/0/predict", json={}, headers=own).status_code == 200
    port = url.rpartition(":")[2]
    for host in (f"localhost:{port}", f"LOCALHOST:{port}", f"[::1]:{port}", "127.0.0.1"):
        headers = {"Host": host, "Origin": f"http://{host.lower()}"}
        assert client.post("/servers/0/predict", json={}, headers=headers).status_code == 200
    visit = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert client.get("/", headers=visit).status_code == 200, "a link to it may be followed"
