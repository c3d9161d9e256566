"""Just enough of a client to ask a server for an action, and a server that lives as long as one command."""

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import uvicorn

from vla_server_base.errors import RequestError, Unavailable

POLL_S = 0.1
REQUEST_TIMEOUT_S = 300.0


class Server:
    """A running server, by its address."""

    def __init__(self, url: str, thread: threading.Thread | None = None):
        self.url = url.rstrip("/")
        self._thread = thread

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

    def wait(self) -> None:
        """Wait until the server ends."""
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(1.0)

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


@contextmanager
def background_server(app: Any) -> Iterator[Server]:
    """Serve `app` on a free port until the block ends."""
    settings = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", access_log=False, lifespan="on")
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run, name="background-server", daemon=True)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(POLL_S)
        if not server.started:
            raise Unavailable("the server could not be started; its log says why")
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Server(f"http://127.0.0.1:{port}", thread)
    finally:
        server.should_exit = True
        thread.join()
