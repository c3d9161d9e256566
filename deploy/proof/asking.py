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


def show_answer(address: str) -> None:
    """Have a scene drawn and the next actions predicted, and print them with what drew it."""
    with urllib.request.urlopen(f"{address}/scenes/panda/tabletop") as scene:
        asked = {"instruction": "pick up the red cube", "xml_string": scene.read().decode()}
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/predict", json.dumps(asked).encode(), headers)
    with urllib.request.urlopen(request) as reply:
        print("action", json.load(reply)["action"])
    with urllib.request.urlopen(f"{address}/info") as reply:
        info = json.load(reply)
    print("renderer", info["renderer"], "confinement", info["confinement"])
