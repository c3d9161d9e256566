"""HTTP requests with API keys: who is let in, as whom, and what the others learn."""

import httpx
import pytest
from echo_server import wait_until
from keyed_server import CLASSES, keyed_server

from vla_server_base.access.keys import new_secret
from vla_server_base.access.wrong_keys import MAX_WRONG
from vla_server_base.testing.protocol_robots import bearer, openpi_header

OPEN = [("GET", "/live"), ("GET", "/health"), ("GET", "/")]


HIDDEN = [("GET", path) for path in ("/docs", "/redoc", "/openapi.json", "/vla-eval", "/there-is-none")]


def test_every_route_but_the_probes_and_the_page_needs_a_key(keyed):
    with keyed.client("ann") as client:
        paths = client.get("/openapi.json").json()["paths"]
    routes = [(method.upper(), path) for path, methods in paths.items() for method in methods]
    assert len(routes) > 30
    with httpx.Client(base_url=keyed.url) as client:
        for method, path in {*routes, *HIDDEN, ("POST", "/"), ("POST", "/health")} - {*OPEN}:
            reply = client.request(method, path)
            assert (reply.status_code, reply.headers.get("www-authenticate")) == (401, "Bearer"), (method, path)


@pytest.mark.parametrize("route", OPEN)
def test_probes_and_the_page_need_none(keyed, route):
    assert httpx.request(route[0], keyed.url + route[1]).status_code == 200


@pytest.mark.parametrize("header", [bearer, openpi_header, lambda key: {"authorization": f"bearer   {key}"}])
def test_a_key_is_taken_as_bearer_and_as_openpi_sends_it(keyed, header):
    assert httpx.get(f"{keyed.url}/sessions", headers=header(keyed.secrets["arm-1"])).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic YXJtOjE="},
        {"Authorization": "Bearer vla_wrong"},
        {"Authorization": b"Bearer \xff\xfe"},
        {"X-Api-Key": "vla_wrong"},
        {"Cookie": "vla_login=abc"},
    ],
)
def test_without_a_valid_key_the_refusal_says_how_to_send_one(keyed, headers):
    reply = httpx.get(f"{keyed.url}/sessions", headers=headers)
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "unauthorized")
    assert reply.json()["error"]["hint"]


def test_a_key_in_the_address_opens_nothing(keyed):
    secret = keyed.secrets["arm-1"]
    for name in ("api_key", "key", "access_token", "Authorization"):
        assert httpx.get(f"{keyed.url}/sessions", params={name: secret}).status_code == 401


def test_the_log_has_the_reason_and_the_request_id_and_never_a_key(keyed, log_lines):
    wrong = new_secret()
    for secret in (wrong, keyed.secrets["arm-1"]):
        headers = {**bearer(secret), "X-Request-Id": "asked"}
        httpx.get(f"{keyed.url}/sessions?api_key={secret}", headers=headers)
    wait_until(lambda: len(log_lines("path=/sessions")) == 2)
    refused, answered = log_lines("path=/sessions")
    assert "status=401" in refused
    assert "code=unauthorized" in refused
    assert "request_id=asked" in refused
    assert "client=key:arm-1 address=127.0.0.1" in answered
    assert not [line for line in log_lines("") if wrong in line or keyed.secrets["arm-1"] in line]


def test_a_revoked_key_is_refused_from_the_next_request_on(keyed):
    with keyed.client("arm-1") as client:
        assert client.get("/sessions").status_code == 200
        keyed.revoke("arm-1")
        assert client.get("/sessions").status_code == 401
    assert keyed.predict("arm-2", "s").status_code == 200


def test_many_wrong_keys_are_slowed_down_and_lock_out_nobody(tmp_path):
    wrong = bearer(new_secret())
    with keyed_server(tmp_path) as server:
        with httpx.Client(base_url=server.url) as client:
            codes = [client.get("/sessions", headers=wrong).status_code for _ in range(MAX_WRONG + 1)]
        assert codes == [401] * MAX_WRONG + [429]
        with server.client("arm-1") as client:
            assert client.get("/sessions").status_code == 200


def test_sessions_say_which_key_they_are_of(keyed):
    for name in CLASSES:
        keyed.predict(name, "arm")
        with keyed.client(name) as client:
            (session,) = client.get("/sessions").json()["sessions"]
        assert (session["id"], session["client"]) == ("arm", f"key:{name}")


@pytest.mark.parametrize(("name", "status"), [("ann", 422), ("arm-1", 403), ("night", 403)])
def test_only_a_persons_key_may_change_the_models(tmp_path, name, status):
    with keyed_server(tmp_path, models="on") as server, server.client(name) as client:
        reply = client.post("/models", json={})
        assert reply.status_code == status
        assert client.get("/models").status_code == 200
