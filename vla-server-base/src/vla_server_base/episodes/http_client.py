"""The one HTTP client of a policy server: health, info, predict, execute and episodes."""

import asyncio
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import httpx
import msgspec

from vla_client.credentials import Credentials
from vla_server_base.contract import PolicySpec
from vla_server_base.errors import Overloaded, RateLimited, RequestError, Unauthorized, Unavailable
from vla_server_base.request_context import Priority

_POLL_S = 0.1
_REQUEST_TIMEOUT_S = 300.0
_EPISODE_TIMEOUT_S = 1800.0
# For how long a batch request is sent again.
_PATIENCE_S = 600.0
_NO_ROOM = (Overloaded.code, RateLimited.code)
_UNAVAILABLE = (Unavailable.status, RateLimited.status)
_HINT = "give the address of a running server, such as http://127.0.0.1:8002; `octo-service serve` starts one"


class PolicyServer:
    """A running server, by its address; `priority` says how urgent the requests are.

    An API key comes from the variable `VLA_API_KEY`, the CA of an https:// server's certificate from `VLA_CA_FILE`, and
    a certificate for a server that asks for one from `VLA_CLIENT_CERT`.

    A `batch` request that the server has no room for is sent again, when the server says so: robots come first.

    >>> async with PolicyServer("http://127.0.0.1:8002") as server:
    ...     reply = await server.predict({"image": ..., "instruction": "lift the red cube"})

    Raises:
        Unavailable: no policy server answers there, or it cannot answer now.
        RequestError: the server refuses a request; with its message and hint.
    """

    def __init__(self, url: str, priority: Priority = "robot"):
        self.url, self._priority = url.rstrip("/"), priority

    async def __aenter__(self) -> "PolicyServer":
        try:
            credentials = Credentials()
            self._client = httpx.AsyncClient(
                base_url=self.url,
                timeout=_REQUEST_TIMEOUT_S,
                headers={"X-Priority": self._priority, **credentials.headers},
                verify=credentials.tls(self.url) or True,
            )
        except (httpx.InvalidURL, OSError) as error:
            raise self._no_policy_server(str(error)) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def wait_until_healthy(self) -> None:
        """Wait until the policy answers."""
        while True:
            response, reply = await self._request("GET", "/health")
            if response.is_success:
                return
            if reply.get("status") != "loading":
                raise self._error(response, reply)
            await asyncio.sleep(_POLL_S)

    async def description(self) -> Mapping[str, Any]:
        """Return the reply of `GET /info`, once the policy is loaded."""
        reply = await self._ask("GET", "/info", expected="policy")
        if reply["policy"] is None:
            reason = reply.get("reason") or "the server gives no reason"
            raise Unavailable(
                f"the policy at {self.url} is not loaded ({reason})", hint="wait until GET /health is 200"
            )
        return reply

    async def info(self) -> Mapping[str, Any]:
        """Return what the server says of its policy: the fields of a PolicySpec."""
        return (await self.description())["policy"]

    async def end_session(self, session_id: str) -> None:
        """Have the server forget a session, if it still has it."""
        await self._request("DELETE", f"/sessions/{session_id}")

    async def predict(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the reply of `POST /predict`."""
        return await self._ask("POST", "/predict", expected="model", json=body)

    async def execute(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Have the server run a whole episode, and return the reply of `POST /execute`."""
        return await self._ask("POST", "/execute", expected="model", json=body, timeout=_EPISODE_TIMEOUT_S)

    async def begin_episode(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Begin an episode that can be watched, and return the reply of `POST /episodes`."""
        return await self._ask("POST", "/episodes", expected="episode_id", json=body)

    async def _ask(self, method: str, path: str, *, expected: str, **content: Any) -> Mapping[str, Any]:
        """Return a reply; `expected` is a field that every policy server's reply has."""
        response, reply = await self._request_with_patience(method, path, **content)
        if not response.is_success:
            raise self._error(response, reply)
        if expected not in reply:
            raise self._no_policy_server(f"its reply has no '{expected}'")
        return reply

    async def _request_with_patience(self, method: str, path: str, **content: Any) -> tuple[httpx.Response, Any]:
        until = time.monotonic() + (_PATIENCE_S if self._priority == "batch" else 0.0)
        while True:
            response, reply = await self._request(method, path, **content)
            error = reply.get("error")
            has_no_room = isinstance(error, dict) and error.get("code") in _NO_ROOM
            if not has_no_room or time.monotonic() >= until:
                return response, reply
            await asyncio.sleep(float(response.headers.get("Retry-After", 1)))

    async def _request(self, method: str, path: str, **content: Any) -> tuple[httpx.Response, Mapping[str, Any]]:
        try:
            response = await self._client.request(method, path, **content)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._no_policy_server(str(error) or type(error).__name__) from error
        try:
            reply = response.json()
        except ValueError:
            reply = None
        if not isinstance(reply, dict):
            raise self._no_policy_server(f"it answers {response.status_code}")
        return response, reply

    def _error(self, response: httpx.Response, reply: Mapping[str, Any]) -> RequestError | Unavailable:
        """Return the server's own error."""
        error = reply.get("error")
        if isinstance(error, dict):
            if response.status_code == Unauthorized.status:
                return Unauthorized(error["message"], hint="set VLA_API_KEY to a key of this server")
            kind = Unavailable if response.status_code in _UNAVAILABLE else RequestError
            return kind(error["message"], hint=error["hint"])
        if "reason" in reply:
            return Unavailable(str(reply["reason"]), hint=f"the log of the server at {self.url} says more")
        return self._no_policy_server(f"it answers {response.status_code}")

    def _no_policy_server(self, reason: str) -> Unavailable:
        return Unavailable(f"no policy server answers at {self.url} ({reason.strip()})", hint=_HINT)


def policy_spec(info: Mapping[str, Any]) -> PolicySpec:
    """Return what a server's /info says of its policy; what an older server does not say has its default.

    Raises:
        Unavailable: it describes no policy.
    """
    try:
        return msgspec.convert(info, PolicySpec)
    except msgspec.ValidationError as error:
        raise Unavailable(f"/info of the server describes no policy ({error})", hint=_HINT) from error
