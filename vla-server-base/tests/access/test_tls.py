"""TLS: what is wrong with the files is said at the start; a renewed certificate is shown at the next connection."""

import os
import shutil
import ssl
import subprocess
from pathlib import Path

import httpx
import numpy as np
import pytest
from echo_server import echo_app
from keyed_server import keyed_server

from vla_client import Policy, Unauthorized, Unreachable
from vla_server_base.config import ConfigError
from vla_server_base.episodes import PolicyServer

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")


OLD = """
[ca]
default_ca = old
[old]
database = {folder}/index
new_certs_dir = {folder}
rand_serial = yes
default_md = sha256
policy = any
[any]
commonName = supplied
"""


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1, signed by itself, and its key."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key)
    names = ("-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1")
    command = ["openssl", "req", "-x509", *new_key, "-out", cert, *names, "-days", "30"]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("certificates")
    cert, key = certificate(folder, "server")
    _, other = certificate(folder, "other")
    (folder / "text").write_text("no certificate")
    locked = folder / "locked.key"
    subprocess.run(["openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:x", "-out", locked], check=True)
    return {
        "cert": cert,
        "key": key,
        "other": other,
        "text": folder / "text",
        "none": folder / "none",
        "locked": locked,
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


def test_an_expired_certificate_is_refused(tmp_path):
    cert, key = certificate(tmp_path, "old")
    (tmp_path / "index").touch()
    (tmp_path / "ca.cnf").write_text(OLD.format(folder=tmp_path))
    times = ("-startdate", "20200101000000Z", "-enddate", "20210101000000Z")
    of_itself = ("-ss_cert", cert, "-cert", cert, "-keyfile", key, "-out", cert, "-notext")
    command = ["openssl", "ca", "-batch", "-config", tmp_path / "ca.cnf", *of_itself, *times]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(ConfigError, match="has expired"):
        echo_app(tls_cert=str(cert), tls_key=str(key))


@pytest.fixture
def encrypted(tmp_path):
    cert, key = certificate(tmp_path, "first")
    with keyed_server(tmp_path, tls_cert=str(cert), tls_key=str(key)) as server:
        yield server, cert, key


def test_the_client_speaks_wss_with_a_key_and_a_ca(encrypted, monkeypatch):
    server, cert, _ = encrypted
    url = server.url.replace("https", "wss")
    with Policy(url, api_key=server.secrets["arm-1"], ca_file=str(cert)) as policy:
        assert policy.act(np.zeros((8, 8, 3), np.uint8), "go").shape == (7,)
    with pytest.raises(Unreachable, match="cannot be trusted"):
        Policy(url, api_key=server.secrets["arm-1"])
    monkeypatch.setenv("VLA_CA_FILE", str(cert))
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


def test_a_login_under_tls_has_a_secure_cookie(encrypted):
    server, cert, _ = encrypted
    with httpx.Client(verify=ssl.create_default_context(cafile=cert), base_url=server.url) as client:
        reply = client.post("/login", headers={"Authorization": f"Bearer {server.secrets['ann']}"})
        assert {"Secure", "HttpOnly", "SameSite=strict"} <= set(reply.headers["set-cookie"].split("; "))
        assert client.get("/sessions").status_code == 200


@pytest.mark.anyio
async def test_the_commands_client_takes_key_and_ca_from_the_environment(encrypted, monkeypatch):
    server, cert, _ = encrypted
    monkeypatch.setenv("VLA_CA_FILE", str(cert))
    async with PolicyServer(server.url) as asked:
        with pytest.raises(Unauthorized) as refused:
            await asked.info()
    assert "VLA_API_KEY" in refused.value.hint
    monkeypatch.setenv("VLA_API_KEY", server.secrets["ann"])
    async with PolicyServer(server.url) as asked:
        assert (await asked.info())["model"] == "echo"
