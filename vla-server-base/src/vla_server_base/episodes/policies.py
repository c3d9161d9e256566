"""Policies as an episode takes them: an adapter loaded here, a server elsewhere, either with a shorter window."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any

import httpx
import numpy as np
from jaxtyping import Float

from vla_server_base.adapter import VLAModelAdapter
from vla_server_base.config import ServerConfig
from vla_server_base.contract import (
    Image,
    PolicyRequest,
    Task,
    Window,
)
from vla_server_base.engine.engine import Engine
from vla_server_base.episodes.loop import Policy
from vla_server_base.errors import RequestError, Unavailable
from vla_server_base.images import encode_png
from vla_server_base.sessions.action_chunking import ObservationWindow

ARM_ACTION = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
"""The action that controllers execute: the end effector's motion [m, rad] and the gripper, 1 open and 0 closed."""

_REQUEST_TIMEOUT_S = 120.0
_EPISODE_TIMEOUT_S = 1800.0
_HINT = "give the address of one that runs, such as http://127.0.0.1:8002; `octo-service serve` starts one"


def check_drives_arm(action_names: tuple[str, ...]) -> None:
    """Refuse a policy whose actions are no motions of an end effector.

    Raises:
        RequestError: naming its actions.
    """
    if action_names != ARM_ACTION:
        raise RequestError(
            f"this policy's action ({', '.join(action_names)}) does not move an end effector",
            hint=f"an arm is driven by {', '.join(ARM_ACTION)}",
        )


class EnginePolicy:
    """The policy of a running engine; chunks are un-normalized with the statistics of `dataset`."""

    def __init__(self, engine: Engine, dataset: str | None = None):
        self._engine = engine
        self._spec = engine.spec
        self.dataset = dataset or self._spec.default_dataset
        self._actions = self._spec.actions_of(self.dataset)
        check_drives_arm(self._actions.names)

    @property
    def window(self) -> int:
        return self._spec.window

    @property
    def cameras(self) -> tuple[str, ...]:
        return self._spec.camera_names

    async def predict(self, window: Window, task: Task, seed: int, step: int) -> Float[np.ndarray, "horizon 7"]:
        request = PolicyRequest(window=window, task=task, seed=seed, step=step, dataset=self.dataset)
        prediction = await self._engine.predict(request)
        return self._engine.form_action(prediction.chunks[0], self.dataset, self._actions.formats[0]).actions


@asynccontextmanager
async def load_policy(
    adapter: VLAModelAdapter, model_id: str, *, config: ServerConfig | None = None, dataset: str | None = None
) -> AsyncIterator[EnginePolicy]:
    """Load `adapter` in this process and give it as a policy for the length of an `async with` block.

    Raises:
        ModelUnavailable: it cannot be loaded; with the reason.
        RequestError: its actions cannot drive an arm.
    """
    engine = Engine(adapter, dataclasses.replace(config or ServerConfig(), load_retry_s=0), model_id)
    engine.start()
    try:
        await engine.loaded()
        yield EnginePolicy(engine, dataset)
    finally:
        await engine.close()


class HttpPolicy:
    """The policy of a server, by its address.

    >>> async with HttpPolicy("http://127.0.0.1:8002") as policy: ...

    Raises:
        Unavailable: there is no server, or its policy is not loaded.
        RequestError: whatever else it answers with.
    """

    def __init__(self, url: str, dataset: str | None = None):
        self._url, self._dataset = url.rstrip("/"), dataset

    async def __aenter__(self) -> "HttpPolicy":
        try:
            self._client = httpx.AsyncClient(base_url=self._url, timeout=_REQUEST_TIMEOUT_S)
        except httpx.InvalidURL as error:
            raise Unavailable(f"'{self._url}' is not an address ({error})", hint=_HINT) from error
        try:
            reply = await self._ask("GET", "/info")
            if not isinstance(reply, dict) or "policy" not in reply:
                raise Unavailable(f"the server at {self._url} is not a policy server", hint=_HINT)
            info = reply["policy"]
            if info is None:
                raise Unavailable(f"the policy at {self._url} is not loaded")
            check_drives_arm(tuple(info["action_names"]))
        except BaseException:
            await self._client.aclose()
            raise
        self.info: Mapping[str, Any] = info
        """What the server's /info says of its policy: a PolicySpec's fields."""
        self.window: int = info["window"]
        self.cameras = tuple(camera["name"] for camera in info["cameras"])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def predict(self, window: Window, task: Task, seed: int, step: int) -> Float[np.ndarray, "horizon 7"]:
        body = await asyncio.to_thread(self._body, window, task)
        reply = await self._ask("POST", "/predict", json={**body, "seed": seed, "step": step})
        return np.array(reply["actions"], np.float64)

    async def execute(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Have the server run a whole episode (`POST /execute`) and return its reply."""
        return await self._ask("POST", "/execute", json={"dataset": self._dataset, **body}, timeout=_EPISODE_TIMEOUT_S)

    def _body(self, window: Window, task: Task) -> dict[str, Any]:
        seen = [o for o, is_seen in zip(window.observations, window.timestep_pad_mask, strict=True) if is_seen]
        return {
            "images": _pictures(seen[-1].images),
            "history": [{"images": _pictures(observation.images)} for observation in seen[:-1]],
            "instruction": task.instruction or "",
            "dataset": self._dataset,
            "goal_images": _pictures(task.goal_images),
        }

    async def _ask(self, method: str, path: str, **content: Any) -> Mapping[str, Any]:
        try:
            response = await self._client.request(method, path, **content)
            answer = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable(f"no policy server answers at {self._url} ({error})", hint=_HINT) from error
        if response.is_success:
            return answer
        if not isinstance(answer, dict) or "error" not in answer:
            raise Unavailable(f"the server at {self._url} is not a policy server ({response.status_code})", hint=_HINT)
        error = answer["error"]
        kind = Unavailable if response.status_code == Unavailable.status else RequestError
        raise kind(error["message"], hint=error["hint"])


class LastObservations:
    """A policy that is shown only the last `length` observations; the rest of its window is padding.

    So each of its windows looks as the first ones of an episode do, whatever the policy was trained with.

    Raises:
        RequestError: `length` is not within the policy's window.
    """

    def __init__(self, policy: Policy, length: int):
        if not 1 <= length <= policy.window:
            raise RequestError(f"window: {length} observations are asked for, this policy takes 1 to {policy.window}")
        self._policy = policy
        self.window = length
        self.cameras = policy.cameras

    async def predict(self, window: Window, task: Task, seed: int, step: int) -> Float[np.ndarray, "horizon 7"]:
        history = ObservationWindow(self._policy.window)
        seen = zip(window.observations, window.timestep_pad_mask, strict=True)
        *_, padded = [history.append(observation) for observation, is_seen in seen if is_seen]
        return await self._policy.predict(padded, task, seed, step)


def _pictures(images: Mapping[str, Image]) -> dict[str, str]:
    return {name: encode_png(image) for name, image in images.items()}
