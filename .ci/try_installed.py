#!/usr/bin/env python3
"""What a user does first with an installed octo-service: its commands, a server, a page, an action, the end, the demo.

Run by the Python of the environment in which it is installed. Its home and its folder are empty, so that nothing but
what is installed can be found, and no other package of ours may lie outside the environment.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from importlib import util
from pathlib import Path

READY_S = 300
"""A first start compiles the policy; it takes 10 s, and on a busy machine a minute."""
PACKAGES = ("vla_client", "vla_console", "vla_server_base", "octo_service")


def main() -> None:
    for package in PACKAGES:
        spec = util.find_spec(package)
        assert spec is not None, f"{package} is not installed"
        assert str(spec.origin).startswith(sys.prefix), f"{package} is imported from {spec.origin}"
    with tempfile.TemporaryDirectory() as home:
        os.chdir(home)
        environment = {"PATH": os.defpath, "HOME": home, "OCTO_MODEL": "bundled://tabletop"}
        print(printed_by("octo-service", environment, "--version"))
        printed_by("vla-console", environment, "--help")
        try_server({**environment, "VLA_PORT": "0"})
        assert "done:" in printed_by("octo-service", {**environment, "ONCE": "1"}, "demo")


def printed_by(program: str, environment: dict[str, str], *arguments: str) -> str:
    command = [Path(sys.prefix, "bin", program), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def try_server(environment: dict[str, str]) -> None:
    """Start a server, have it show its page and answer a request, and stop it as a supervisor does."""
    command = [Path(sys.prefix, "bin", "octo-service"), "serve"]
    with Path("log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stderr=log)
    watchdog = threading.Timer(READY_S, server.kill)
    watchdog.start()
    try:
        try_requests(address_of(server))
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0, f"exit code {server.returncode} after SIGTERM:\n{Path('log').read_text()}"
    finally:
        watchdog.cancel()
        server.kill()


def address_of(server: subprocess.Popen[bytes]) -> str:
    """Wait until the server is ready, and return its address, which is in its log."""
    while server.poll() is None:
        found = re.search(r"Uvicorn running on (\S+)", Path("log").read_text())
        if found and is_ready(found[1]):
            return found[1]
        time.sleep(0.1)
    raise AssertionError(f"the server ended before it was ready:\n{Path('log').read_text()}")


def is_ready(address: str) -> bool:
    try:
        return urllib.request.urlopen(f"{address}/health").status == HTTPStatus.OK
    except urllib.error.HTTPError:
        return False


def try_requests(address: str) -> None:
    """Ask a ready server for its page and for the next actions in one of its scenes."""
    with urllib.request.urlopen(urllib.request.Request(f"{address}/", headers={"Accept": "text/html"})) as page:
        assert b"console.js" in page.read(), "the page is not the console"
    with urllib.request.urlopen(f"{address}/scenes/panda/tabletop") as scene:
        asked = {"instruction": "pick up the red cube", "xml_string": scene.read().decode()}
    request = urllib.request.Request(
        f"{address}/predict", json.dumps(asked).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as reply:
        assert json.load(reply)["action"], "no action"


if __name__ == "__main__":
    main()
