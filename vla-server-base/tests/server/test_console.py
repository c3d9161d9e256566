"""The console's page: at `/` where it is installed and on, to its own origin only."""

import sys
from pathlib import Path

import httpx
import pytest
import websockets.sync.client
from echo_server import echo_app, wait_until_healthy
from raw_socket import connected, head, rest_of, status_of

from vla_server_base.server.uvicorn_server import serving

FILES = ["/", "/console/console.js", "/console/console.css", "/console/licences.txt", "/console/servers.json"]


def served(path: str, **settings) -> httpx.Response:
    with serving(echo_app(**settings)) as url:
        return httpx.get(url + path)


def test_the_page_is_at_the_servers_address(client):
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert 'src="console/console.js"' in page.text
    assert client.get("/console/console.js").headers["content-type"].startswith("text/javascript")
    assert client.get("/console/console.css").headers["content-type"].startswith("text/css")


def test_it_shows_this_server(client):
    assert client.get("/console/servers.json").json() == {"servers": [{"name": "echo", "base": "/"}]}


@pytest.mark.parametrize("path", FILES)
def test_it_asks_no_other_origin_and_is_in_no_frame(client, path):
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'self'; ")
    assert "frame-ancestors 'none'" in policy
    assert "http" not in policy
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", FILES[:-1])
def test_a_browser_that_has_a_file_gets_no_second_copy(client, path):
    first = client.get(path)
    assert first.headers["cache-control"] == "no-cache"
    again = client.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("path", FILES)
def test_head_gives_the_headers_alone(client, path):
    head, get = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(get.num_bytes_downloaded)
    assert head.headers.get("content-encoding") == get.headers.get("content-encoding")


@pytest.mark.parametrize("path", FILES[:-1])
def test_a_file_travels_compressed_where_the_browser_accepts_it(client, path):
    plain = client.get(path, headers={"Accept-Encoding": "gzip;q=0, identity"})
    compressed = client.get(path, headers={"Accept-Encoding": "br, gzip;q=0.5"})
    assert "content-encoding" not in plain.headers
    assert compressed.headers["content-encoding"] == "gzip"
    assert compressed.num_bytes_downloaded < plain.num_bytes_downloaded == len(plain.content)
    assert compressed.content == plain.content
    assert compressed.headers["content-type"] == plain.headers["content-type"]
    assert compressed.headers["etag"] != plain.headers["etag"]
    assert {compressed.headers["vary"], plain.headers["vary"]} == {"Accept-Encoding"}


@pytest.mark.parametrize("path", FILES)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
    ],
    ids=str,
)
def test_a_page_of_another_origin_gets_nothing(client, path, headers):
    response = client.get(path, headers=headers)
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "forbidden"


@pytest.mark.parametrize(
    "path", ["/console", "/console/", "/console/missing.js", "/console/a%00b", "/console/" + "a" * 300]
)
def test_a_missing_file_is_an_error_in_our_form(client, path):
    response = client.get(path)
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    "path",
    [
        "/console/../pyproject.toml",
        "/console/%2e%2e/__init__.py",
        "/console/..%2f__init__.py",
        "/console/%2e%2e%2f%2e%2e%2fvla_console%2f__init__.py",
        "/console//etc/passwd",
        "/console/%2fetc%2fpasswd",
        "/console/..%5c__init__.py",
    ],
)
def test_no_path_leads_out_of_the_pages_folder(url, path):
    with connected(url) as wire:
        wire.sendall(head(f"GET {path} HTTP/1.1", "Connection: close"))
        answer = rest_of(wire)
    assert status_of(answer) == 404
    assert b"static_dir" not in answer


def test_the_page_is_only_read(client):
    response = client.post("/console/console.js", json={})
    assert response.status_code == 405
    assert response.json()["error"]["code"] == "method_not_allowed"


def test_openpis_socket_is_at_the_same_address(url):
    with websockets.sync.client.connect(url.replace("http", "ws") + "/") as socket:
        assert socket.recv()


def test_it_can_be_left_out():
    with serving(echo_app(console="off")) as url:
        assert "VLA_CONSOLE=on" in httpx.get(url).text
        assert httpx.get(f"{url}/console/console.js").status_code == 404
        assert httpx.get(f"{url}/console/servers.json").status_code == 404
        wait_until_healthy(url)


def test_where_it_is_not_installed_the_plain_page_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "vla_console.page", None)
    assert "install vla-server-base[console]" in served("/").text


def test_where_it_is_not_built_the_plain_page_is_shown(monkeypatch, tmp_path: Path):
    monkeypatch.setattr("vla_console.page.static_dir", lambda: tmp_path)
    assert "install vla-server-base[console]" in served("/").text
