"""Just enough of a client to ask a server for an action."""

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from vla_server_base.errors import RequestError, Unavailable

POLL_S = 0.1
REQUEST_TIMEOUT_S = 300.0
HINT = "give the address of one that runs, such as http://127.0.0.1:8002; `octo-service serve` starts one"


class Server:
    """A running server, by its address.

    Raises:
        RequestError: that is no address.
    """

    def __init__(self, url: str):
        if not url.startswith(("http://", "https://")):
            raise RequestError(f"'{url}' is not the address of a server", hint="write it as http://host:port")
        self.url = url.rstrip("/")

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send JSON and return the JSON reply.

        Raises:
            RequestError, Unavailable: the server's own message, or that no policy server answers at this address.
        """
        reply = self._answer(path, json.dumps(body).encode())
        if "model" not in reply:
            raise self._no_policy_server("it answers otherwise")
        return reply

    def wait_until_healthy(self) -> None:
        """Wait until the policy answers.

        Raises:
            Unavailable: the policy cannot be loaded; with the server's reason.
        """
        while True:
            try:
                self._answer("/health")
                return
            except Unavailable as error:
                if error.code != "loading":
                    raise
            time.sleep(POLL_S)

    def _answer(self, path: str, data: bytes | None = None) -> dict[str, Any]:
        try:
            request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT_S) as response:
                return dict(json.load(response))
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error) from error
        except (OSError, ValueError, TypeError, http.client.HTTPException) as error:
            raise self._no_policy_server(str(getattr(error, "reason", error)).strip()) from error

    def _refusal(self, response: urllib.error.HTTPError) -> RequestError | Unavailable:
        """Return the server's own message, or that it is none of ours."""
        try:
            reply = json.load(response)
            if "error" in reply:
                return RequestError(reply["error"]["message"], hint=reply["error"]["hint"])
            error = Unavailable(reply["reason"])
            error.code = reply["status"]
            return error
        except (ValueError, KeyError, TypeError):
            return self._no_policy_server(f"it answers {response.code}")

    def _no_policy_server(self, reason: str) -> Unavailable:
        return Unavailable(f"no policy server answers at {self.url} ({reason})", hint=HINT)
