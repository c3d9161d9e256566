"""Policies for episodes: an adapter loaded in this process, a server, or either with a shorter window."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Float

from vla_server_base.adapter import VLAModelAdapter
from vla_server_base.config import ServerConfig
from vla_server_base.contract import (
    Image,
    Observation,
    PolicyRequest,
    PolicySpec,
    PreviousChunk,
    Task,
    Window,
)
from vla_server_base.engine.engine import Engine
from vla_server_base.engine.in_process import InProcessEngine
from vla_server_base.episodes.http_client import PolicyServer, policy_spec
from vla_server_base.episodes.interfaces import EpisodePolicy, GuidedChunk
from vla_server_base.errors import RequestError, UnknownName
from vla_server_base.request_context import Priority
from vla_server_base.request_inputs import encode_png
from vla_server_base.sessions.action_chunking import ObservationWindow

ARM_ACTION = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
"""The action that controllers execute: the end effector's motion [m, rad] and the gripper, 1 open and 0 closed."""


def check_drives_arm(action_names: tuple[str, ...]) -> None:
    """Refuse a policy whose actions are not motions of an end effector.

    Raises:
        RequestError: naming its actions.
    """
    if action_names != ARM_ACTION:
        raise RequestError(
            f"this policy's action ({', '.join(action_names)}) does not move an end effector",
            hint=f"use a policy whose actions are {', '.join(ARM_ACTION)}; if they are, have its server name them so",
        )


class EnginePolicy:
    """The policy of a running engine; chunks are un-normalized with the statistics of `dataset`."""

    def __init__(self, engine: Engine, dataset: str | None = None):
        self._engine = engine
        self._spec = engine.spec
        self.dataset = dataset or self._spec.default_dataset
        if self.dataset not in self._spec.actions:
            raise UnknownName("dataset", self.dataset or "", self._spec.datasets)
        self._actions = self._spec.actions[self.dataset]
        check_drives_arm(self._actions.names)

    @property
    def spec(self) -> PolicySpec:
        return self._spec

    @property
    def window(self) -> int:
        return self._spec.window

    @property
    def cameras(self) -> tuple[str, ...]:
        return self._spec.camera_names

    async def predict(self, window: Window, task: Task, seed: int, step: int) -> Float[np.ndarray, "horizon 7"]:
        return (await self.predict_guided(window, task, seed, step, None)).actions

    async def predict_guided(
        self, window: Window, task: Task, seed: int, step: int, previous: PreviousChunk | None
    ) -> GuidedChunk:
        request = PolicyRequest(window=window, task=task, seed=seed, step=step, dataset=self.dataset, previous=previous)
        rows = (await self._engine.predict(request)).chunks[0]
        return GuidedChunk(
            actions=self._engine.form_action(rows, self.dataset, self._actions.formats[0]).actions, rows=rows
        )


@asynccontextmanager
async def load_policy(
    adapter: VLAModelAdapter, model_id: str, *, config: ServerConfig | None = None, dataset: str | None = None
) -> AsyncIterator[EnginePolicy]:
    """Load `adapter` in this process and yield it as a policy for an `async with` block.

    Raises:
        ModelUnavailable: it cannot be loaded; with the reason.
        RequestError: its actions cannot drive an arm.
    """
    engine = InProcessEngine(adapter, dataclasses.replace(config or ServerConfig(), load_retry_s=0), model_id)
    engine.start()
    try:
        await engine.loaded()
        yield EnginePolicy(engine, dataset)
    finally:
        await engine.close()


def is_address(policy: str) -> bool:
    """Return whether what names a policy is a server's address, not a checkpoint."""
    return policy.startswith(("http://", "https://"))


class HttpPolicy:
    """The policy of a server, by its address.

    `priority` is how urgent its requests are to the server: `batch` waits for robots.

    >>> async with HttpPolicy("http://127.0.0.1:8002") as policy: ...

    Raises:
        Unavailable, RequestError: see `PolicyServer`.
    """

    def __init__(self, url: str, dataset: str | None = None, *, priority: Priority = "robot"):
        self._server, self._dataset = PolicyServer(url, priority), dataset

    async def __aenter__(self) -> "HttpPolicy":
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._server)
            info = await self._server.info()
            spec = policy_spec(info)
            check_drives_arm(spec.action_names)
            self._stack = stack.pop_all()
        self.info: Mapping[str, Any] = info
        """What the server's /info says of its policy: a PolicySpec's fields."""
        self.spec: PolicySpec = spec
        self.window: int = spec.window
        self.cameras = spec.camera_names
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def predict(self, window: Window, task: Task, seed: int, step: int) -> Float[np.ndarray, "horizon 7"]:
        body = await asyncio.to_thread(self._body, window, task)
        reply = await self._server.predict({**body, "seed": seed, "step": step})
        return np.array(reply["actions"], np.float64)

    async def execute(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Have the server run a whole episode (`POST /execute`) and return its reply."""
        return await self._server.execute({"dataset": self._dataset, **body})

    def _body(self, window: Window, task: Task) -> dict[str, Any]:
        pairs = zip(window.observations, window.timestep_pad_mask, strict=True)
        *past, present = [observation for observation, is_real in pairs if is_real]
        return {
            **_observed(present),
            "history": [_observed(observation) for observation in past],
            "instruction": task.instruction or "",
            "dataset": self._dataset,
            "goal_images": _encoded(task.goal_images),
        }


class LastObservations:
    """A policy that is shown only the last `length` observations; the rest of its window is padding.

    Each of its windows looks like the first ones of an episode.

    Raises:
        RequestError: `length` is not within the policy's window.
    """

    def __init__(self, policy: EpisodePolicy, length: int):
        if not 1 <= length <= policy.window:
            raise RequestError(
                f"window: expected 1 to {policy.window} observations, got {length}",
                hint="choose a window in that range",
            )
        self._policy = policy
        self.spec = dataclasses.replace(policy.spec, window=length)
        self.window = length
        self.cameras = policy.cameras

    async def predict(self, window: Window, task: Task, seed: int, step: int) -> Float[np.ndarray, "horizon 7"]:
        history = ObservationWindow(self._policy.window)
        pairs = zip(window.observations, window.timestep_pad_mask, strict=True)
        *_, padded = [history.append(observation) for observation, is_real in pairs if is_real]
        return await self._policy.predict(padded, task, seed, step)


def _observed(observation: Observation) -> dict[str, Any]:
    """Return the fields of an observation in a request."""
    proprio = {} if observation.proprio is None else {"proprio": observation.proprio.tolist()}
    return {"images": _encoded(observation.images), **proprio}


def _encoded(images: Mapping[str, Image]) -> dict[str, str]:
    return {name: encode_png(image) for name, image in images.items()}
