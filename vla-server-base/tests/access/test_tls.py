"""TLS: what is wrong with the files is said at the start; a renewed certificate is shown at the next connection."""

import asyncio
import os
import socket
import ssl
from datetime import datetime, timedelta, timezone
from pathlib import Path

import httpx
import numpy as np
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from echo_server import echo_app
from free_port import free_port
from keyed_server import keyed_server

from vla_client import Policy, Unauthorized, Unreachable
from vla_server_base.config import ConfigError
from vla_server_base.episodes import PolicyServer
from vla_server_base.server.uvicorn_server import serving

AUTHORITY = trustme.CA()
YEAR = timedelta(days=365)


def certificate(folder: Path, name: str, years_from_now: int = 0) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 for a year, signed by `AUTHORITY`, and its key."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    begins = datetime.now(timezone.utc) + years_from_now * YEAR
    issued = AUTHORITY.issue_cert("127.0.0.1", not_before=begins, not_after=begins + YEAR)
    issued.cert_chain_pems[0].write_to_path(cert)
    issued.private_key_pem.write_to_path(key)
    return cert, key


def with_password(key: Path) -> bytes:
    return serialization.load_pem_private_key(key.read_bytes(), None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"x"),
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("certificates")
    cert, key = certificate(folder, "server")
    _, other = certificate(folder, "other")
    (folder / "text").write_text("no certificate")
    (folder / "locked.key").write_bytes(with_password(key))
    return {
        "cert": cert,
        "key": key,
        "other": other,
        "text": folder / "text",
        "none": folder / "none",
        "locked": folder / "locked.key",
    }


@pytest.mark.parametrize(
    ("cert", "key", "says"),
    [
        ("none", "key", "VLA_TLS_CERT=.* cannot be read: No such file"),
        ("cert", "none", "VLA_TLS_KEY=.* cannot be read: No such file"),
        ("cert", "other", "is not the key of the certificate"),
        ("text", "key", "cannot be read as a certificate and its key"),
        ("cert", "locked", "needs a password"),
        ("cert", None, "TLS needs VLA_TLS_KEY too"),
        (None, "key", "TLS needs VLA_TLS_CERT too"),
    ],
)
def test_each_mistake_is_a_sentence_at_the_start(files, cert, key, says):
    with pytest.raises(ConfigError, match=says):
        echo_app(tls_cert=str(files.get(cert, "")), tls_key=str(files.get(key, "")))


@pytest.mark.parametrize(("years", "says"), [(-3, "has expired"), (3, "is not valid yet")])
def test_a_certificate_of_another_time_is_refused(tmp_path, years, says):
    cert, key = certificate(tmp_path, "server", years)
    with pytest.raises(ConfigError, match=says):
        echo_app(tls_cert=str(cert), tls_key=str(key))


@pytest.fixture
def ca(tmp_path) -> Path:
    AUTHORITY.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


@pytest.fixture
def encrypted(tmp_path):
    cert, key = certificate(tmp_path, "first")
    with keyed_server(tmp_path, tls_cert=str(cert), tls_key=str(key)) as server:
        yield server, cert, key


def test_the_client_speaks_wss_with_a_key_and_a_ca(encrypted, ca, monkeypatch):
    server, *_ = encrypted
    url = server.url.replace("https", "wss")
    with Policy(url, api_key=server.secrets["arm-1"], ca_file=str(ca)) as policy:
        assert policy.act(np.zeros((8, 8, 3), np.uint8), "go").shape == (7,)
    with pytest.raises(Unreachable, match="cannot be trusted"):
        Policy(url, api_key=server.secrets["arm-1"])
    monkeypatch.setenv("VLA_CA_FILE", str(ca))
    with pytest.raises(Unauthorized, match="the server refuses the API key"):
        Policy(url)
    monkeypatch.setenv("VLA_API_KEY", server.secrets["arm-2"])
    Policy(url).close()


def test_a_renewed_certificate_is_shown_and_a_broken_one_is_not(encrypted, tmp_path):
    server, cert, key = encrypted
    new_cert, new_key = certificate(tmp_path, "second")
    shown = new_cert.read_text()
    os.replace(new_cert, cert)
    assert httpx.get(f"{server.url}/health", verify=False).is_success, "without its key it is not shown"
    os.replace(new_key, key)
    port = int(server.url.rpartition(":")[2])
    assert ssl.get_server_certificate(("127.0.0.1", port)).strip() == shown.strip()


def test_a_client_ca_admits_the_certificates_that_it_signed(files, ca):
    app = echo_app(tls_cert=str(files["cert"]), tls_key=str(files["key"]), tls_client_ca=str(ca))
    strangers, own = (ssl.create_default_context(cafile=ca) for _ in range(2))
    trustme.CA().issue_cert("arm@lab.example").configure_cert(strangers)
    AUTHORITY.issue_cert("arm@lab.example").configure_cert(own)
    with serving(app) as url:
        assert httpx.get(f"{url}/live", verify=own).is_success
        for refused in (strangers, ssl.create_default_context(cafile=ca)):
            with pytest.raises(httpx.TransportError):
                httpx.get(f"{url}/live", verify=refused)


async def health_of(url: str) -> None:
    async with PolicyServer(url) as server:
        await server.wait_until_healthy()


@pytest.mark.parametrize("way", ["given", "from the environment"])
def test_the_client_shows_a_certificate_to_a_server_that_asks_for_one(files, ca, tmp_path, monkeypatch, way):
    monkeypatch.setenv("VLA_CA_FILE", str(ca))
    own = tmp_path / "arm.pem"
    AUTHORITY.issue_cert("arm@lab.example").private_key_and_cert_chain_pem.write_to_path(own)
    app = echo_app(tls_cert=str(files["cert"]), tls_key=str(files["key"]), tls_client_ca=str(ca))
    with serving(app) as url:
        given = str(own)
        if way == "from the environment":
            monkeypatch.setenv("VLA_CLIENT_CERT", given)
            given = None
            asyncio.run(health_of(url))
        with Policy(url.replace("https", "wss"), client_cert=given) as policy:
            assert policy.act(np.zeros((8, 8, 3), np.uint8), "go").shape == (7,)


def test_a_client_without_a_certificate_is_told_that_the_server_may_ask_for_one(files, ca):
    app = echo_app(tls_cert=str(files["cert"]), tls_key=str(files["key"]), tls_client_ca=str(ca))
    with serving(app) as url, pytest.raises(Unreachable) as refused:
        Policy(url.replace("https", "wss"), ca_file=str(ca), reconnect_s=0.1)
    assert "if it asks for certificates give client_cert" in refused.value.hint


def test_a_file_without_a_certificate_is_no_client_ca(files):
    with pytest.raises(ConfigError, match=r"VLA_TLS_CLIENT_CA=.* has no certificate"):
        echo_app(tls_cert=str(files["cert"]), tls_key=str(files["key"]), tls_client_ca=str(files["text"]))


def test_beside_tls_gr00ts_port_needs_an_address_of_its_own(files, tmp_path):
    tls = {"tls_cert": str(files["cert"]), "tls_key": str(files["key"]), "api_keys": f"arm={'k' * 32}"}
    open_to_all = {**tls, "host": "0.0.0.0", "zmq_port": free_port()}
    with pytest.raises(ConfigError, match=r"VLA_ZMQ_PORT=\d+ on VLA_HOST=0.0.0.0 has no TLS") as refused:
        echo_app(**open_to_all)
    for way_on in ("VLA_ZMQ_HOST=127.0.0.1", "ssh -L", "WireGuard"):
        assert way_on in refused.value.hint
    with serving(echo_app(**open_to_all, zmq_host="127.0.0.1")):
        socket.create_connection(("127.0.0.1", open_to_all["zmq_port"])).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", open_to_all["zmq_port"]))


@pytest.mark.parametrize(
    "settings",
    [{"zmq_host": "192.0.2.7"}, {"host": "127.0.0.1"}, {"tls_cert": "", "tls_key": ""}, {"zmq_port": 0}],
    ids=["a tunnel's address", "loopback", "no TLS", "no port"],
)
def test_where_somebody_has_said_so_gr00ts_port_is_opened(files, settings):
    tls = {"tls_cert": str(files["cert"]), "tls_key": str(files["key"]), "api_keys": f"arm={'k' * 32}"}
    echo_app(**{**tls, "host": "0.0.0.0", "zmq_port": 5555, **settings})


def test_a_login_under_tls_has_a_secure_cookie(encrypted, ca):
    server, *_ = encrypted
    with httpx.Client(verify=ssl.create_default_context(cafile=ca), base_url=server.url) as client:
        reply = client.post("/login", headers={"Authorization": f"Bearer {server.secrets['ann']}"})
        assert {"Secure", "HttpOnly", "SameSite=strict"} <= set(reply.headers["set-cookie"].split("; "))
        assert client.get("/sessions").status_code == 200


@pytest.mark.anyio
async def test_the_commands_client_takes_key_and_ca_from_the_environment(encrypted, ca, monkeypatch):
    server, *_ = encrypted
    monkeypatch.setenv("VLA_CA_FILE", str(ca))
    async with PolicyServer(server.url) as asked:
        with pytest.raises(Unauthorized) as refused:
            await asked.info()
    assert "VLA_API_KEY" in refused.value.hint
    monkeypatch.setenv("VLA_API_KEY", server.secrets["ann"])
    async with PolicyServer(server.url) as asked:
        assert (await asked.info())["model"] == "echo"
