"""Just enough of a client to ask a server for an action."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from vla_server_base.errors import RequestError, Unavailable

POLL_S = 0.1
REQUEST_TIMEOUT_S = 300.0


class Server:
    """A running server, by its address."""

    def __init__(self, url: str):
        self.url = url.rstrip("/")

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send JSON and return the JSON reply.

        Raises:
            RequestError, Unavailable: the server's own message, or that there is none at this address.
        """
        data = json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        return self._answer(request)

    def wait_until_healthy(self) -> None:
        """Wait until the policy answers.

        Raises:
            Unavailable: the policy cannot be loaded; with the server's reason.
        """
        while True:
            try:
                self._answer(urllib.request.Request(self.url + "/health"))
                return
            except Unavailable as error:
                if error.code != "loading":
                    raise
            time.sleep(POLL_S)

    def _answer(self, request: urllib.request.Request) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT_S) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise _error_of(json.load(error)) from error
        except OSError as error:
            raise Unavailable(f"no server answers at {self.url} ({error})") from error


def _error_of(reply: Mapping[str, Any]) -> RequestError | Unavailable:
    if "error" in reply:
        return RequestError(reply["error"]["message"], hint=reply["error"]["hint"])
    error = Unavailable(reply["reason"])
    error.code = reply["status"]
    return error
