"""Asks a server that is being proven whether it is ready, and for an action in a scene that it draws."""

import json
import urllib.request
from http import HTTPStatus


def is_ready(address: str) -> bool:
    """Return whether `/health` answers 200."""
    try:
        return urllib.request.urlopen(f"{address}/health", timeout=5).status == HTTPStatus.OK
    except OSError:  # urllib's errors are of this class too
        return False


KEY = "the-key-of-this-proof-and-of-nothing-else"
"""VLA_API_KEYS gives it to the server, which without keys listens on 127.0.0.1 only."""


def show_answer(address: str) -> None:
    """Have a scene drawn and the next actions predicted, and print them with what drew it."""
    asked = {"instruction": "pick up the red cube", "xml_string": ask(f"{address}/scenes/panda/tabletop").decode()}
    print("action", json.loads(ask(f"{address}/predict", json.dumps(asked).encode()))["action"])
    info = json.loads(ask(f"{address}/info"))
    print("renderer", info["renderer"], "confinement", info["confinement"])


def ask(url: str, body: bytes | None = None) -> bytes:
    """Send a request with the key, and return what is answered."""
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as reply:
        return reply.read()
