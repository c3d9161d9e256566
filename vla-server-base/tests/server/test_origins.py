"""A web page that somebody has open drives no robot: what browsers say of themselves, on every route and socket."""

import httpx
import pytest
from echo_server import echo_app, of_one_colour, wait_until, wait_until_healthy
from starlette.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from vla_server_base.config import ConfigError, ServerConfig
from vla_server_base.errors import Forbidden
from vla_server_base.server.origins import Origins
from vla_server_base.server.uvicorn_server import serving

REQUEST = {"instruction": "go", "image": of_one_colour(255, 0, 0), "seed": 0}
EVIL = {"Origin": "https://evil.example"}
ASKED = [
    ("POST", "/predict"),
    ("POST", "/execute"),
    ("POST", "/act"),
    ("POST", "/query"),
    ("POST", "/reset"),
    ("PUT", "/assets/abc"),
    ("GET", "/sessions"),
    ("DELETE", "/sessions/arm-1"),
    ("GET", "/"),
    ("GET", "/docs"),
    ("GET", "/health"),
    ("GET", "/v2/health/ready"),
    ("OPTIONS", "/predict"),
]
KNOWN = [
    "127.0.0.1:8002",
    "10.0.0.7",
    "[::1]:8002",
    "[fe80::1]",
    "localhost:9",
    "robot",
    "robot.",
    "robot:8002",
    "LOCALHOST",
    "a.localhost",
    "vla.internal",
    "robot-server.lab.local:8002",
    "nas.lan.",
    "printer.home.arpa",
]
UNKNOWN = [
    *[
        "evil.example",
        "127.0.0.1.evil.example",
        "evil.example:8002",
        "local.evil.example",
        "evil.local.example",
        "notlocal.example",
    ],
    *["localhost.evil.example", "evil.example#.local", "evil.example/.local", "127.0.0.1@evil.example"],
    *("a b", "robot, evil.example", "", ".", "robot:port", "[robot]"),
]
OTHERS = [
    "http://127.0.0.1:3000",
    "http://127.0.0.1",
    "http://localhost:8002",
    "null",
    "file://",
    "127.0.0.1:8002",
    "http://a@127.0.0.1:8002",
    "http://127.0.0.1:8002.evil.example",
    "http://evil.example:8002",
    "chrome-extension://abc",
    "http://127.0.0.1:8002/page",
]
BROWSER = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


def passes(method: str = "POST", *, config: ServerConfig | None = None, **headers: str) -> bool:
    named = {name.replace("_", "-"): value for name, value in {"Host": "127.0.0.1:8002", **headers}.items()}
    try:
        Origins(config or ServerConfig()).check(method, Headers(named))
    except Forbidden:
        return False
    return True


@pytest.mark.parametrize(("method", "path"), ASKED)
@pytest.mark.parametrize(
    "headers",
    [
        EVIL,
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Host": "evil.example"},
    ],
    ids=str,
)
def test_a_page_of_another_origin_is_refused_at_every_address(client, method, path, headers):
    response = client.request(method, path, headers=headers)
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "forbidden"
    assert "VLA_ALLOWED_" in response.json()["error"]["hint"]


@pytest.mark.parametrize("path", ["/", "/vla-eval", "/nowhere"])
def test_a_socket_of_another_origin_is_refused(url, path):
    with pytest.raises(InvalidStatus) as refused:
        connect(url.replace("http", "ws") + path, origin=Origin("https://evil.example"))
    assert refused.value.response.status_code == 403
    assert b"VLA_ALLOWED_ORIGINS" in refused.value.response.body


def test_a_form_of_another_page_reaches_no_session(client):
    files = {"image": b"...", "instruction": (None, "go"), "session_id": (None, "a-form")}
    assert client.post("/predict", files=files, headers=EVIL).status_code == 403
    listed = client.get("/sessions").json()["sessions"]
    assert "a-form" not in [session["id"] for session in listed]


@pytest.mark.parametrize("path", ["/predict", "/execute", "/act", "/query", "/reset"])
@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", "text/plain; a=application/json"])
def test_what_a_page_may_send_without_being_asked_for_leave_is_not_read(client, path, media):
    response = client.post(path, content=b"{}", headers={"Content-Type": media})
    assert response.status_code == 415
    assert "application/json" in response.json()["error"]["hint"]


def test_programs_and_the_own_pages_are_answered(url, client):
    assert client.post("/predict", json=REQUEST).status_code == 200
    own = {"Origin": url, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    assert client.post("/predict", json=REQUEST, headers=own).status_code == 200
    with connect(url.replace("http", "ws"), origin=url) as socket:
        assert socket.recv()
    for page in ("/", "/docs", "/redoc"):
        response = client.get(page, headers={"Sec-Fetch-Site": "cross-site", **BROWSER})
        assert response.status_code == 200, "a link to it may be followed"
        assert response.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize("host", KNOWN)
def test_addresses_and_names_that_no_stranger_has_are_this_servers(host):
    assert passes(Host=host)


@pytest.mark.parametrize("host", UNKNOWN)
def test_other_names_are_refused(host):
    assert not passes(Host=host)


def test_the_names_that_a_server_goes_by_are_a_setting():
    config = ServerConfig(allowed_hosts="robots.lab.example, .cs.example")
    assert passes(config=config, Host="robots.lab.example:8002")
    assert passes(config=config, Host="gpu1.cs.example")
    assert not passes(config=config, Host="cs.example.evil.example")
    assert not passes(config=config, Host="evilcs.example")
    assert passes(config=ServerConfig(allowed_hosts="*"), Host="anything.example")
    assert passes(config=ServerConfig(host="vla.lab.example"), Host="vla.lab.example")


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8002", "http://127.0.0.1:8002"),
        ("localhost:8002", "http://LOCALHOST:8002"),
        ("robot", "http://robot"),
        ("robot:80", "http://robot"),
        ("robot", "https://robot:443"),
        ("[::1]:8002", "http://[::1]:8002"),
    ],
)
def test_an_origin_is_its_own_by_name_and_port(host, origin):
    assert passes(Host=host, Origin=origin)


@pytest.mark.parametrize("origin", OTHERS)
def test_others_are_not(origin):
    assert not passes(Origin=origin)


def test_origins_that_may_ask_are_a_setting():
    with serving(echo_app(allowed_origins="https://lab.example:8443")) as url:
        wait_until_healthy(url)
        headers = {"Origin": "https://lab.example:8443", "Sec-Fetch-Site": "cross-site"}
        answer = httpx.post(f"{url}/predict", json=REQUEST, headers=headers)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://lab.example:8443"
        asked = {**headers, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
        assert httpx.options(f"{url}/predict", headers=asked).status_code == 200
        assert httpx.options(f"{url}/predict", headers={**asked, **EVIL}).status_code == 403


def test_a_frame_or_a_script_of_another_page_is_no_visit():
    assert passes("GET", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document")
    assert not passes("GET", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="iframe")
    assert not passes("GET", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors", Sec_Fetch_Dest="image")
    assert not passes("POST", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document")


@pytest.mark.parametrize(
    "settings",
    [
        {"allowed_hosts": "http://robots.lab.example"},
        {"allowed_hosts": "robots:8002"},
        {"allowed_origins": "robots.lab.example"},
        {"allowed_origins": "https://robots.lab.example/page"},
        {"allowed_origins": "*"},
    ],
    ids=str,
)
def test_settings_that_name_no_host_or_no_origin_are_refused_at_the_start(settings):
    with pytest.raises(ConfigError, match="VLA_ALLOWED_"):
        echo_app(**settings)


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
def test_no_header_names_the_client(client, log_lines, header):
    client.get("/live", headers={header: "1.2.3.4", "X-Request-Id": f"who-{header}"})
    wait_until(lambda: log_lines(f"request_id=who-{header}"))
    (line,) = log_lines(f"request_id=who-{header}")
    assert "client=127.0.0.1 " in line
