"""ModelReplica: one copy of a policy on a device of the cluster, behind its own queue."""

import asyncio
import contextlib
import dataclasses
import logging
import pkgutil
from typing import Any

from cachetools import FIFOCache

from vla_server_base.cache_folder import writable_cache
from vla_server_base.config import ServerConfig
from vla_server_base.contract import PolicyRequest
from vla_server_base.engine.batches import Prediction
from vla_server_base.engine.in_process import InProcessEngine
from vla_server_base.engine.prefetch import Prefetch
from vla_server_base.errors import Unavailable, VLAError
from vla_server_base.fleet.description import ModelDescription, describe
from vla_server_base.fleet.origin import Origin
from vla_server_base.server.program import configure_logging

logger = logging.getLogger(__name__)

_MAX_PREFETCHES = 256


class ModelReplica:
    """Answers the requests of all servers of the application that it is a replica of.

    They wait in the queue of an engine such as a server has that runs its policy itself: by class, in turns, by their
    deadlines, and in batches.
    """

    async def __init__(self, adapter: str, policy: Any, server: ServerConfig):
        """Load the policy: `adapter`, as `module:name`, is constructed with the settings `policy`.

        Raises:
            ModelUnavailable: it cannot be loaded; with the reason.
        """
        configure_logging(server)
        self._folder = contextlib.ExitStack()
        cache_dir = self._folder.enter_context(writable_cache(server.cache_dir))
        config = dataclasses.replace(server, cache_dir=cache_dir)
        self._adapter = pkgutil.resolve_name(adapter)(policy)
        self._engine = InProcessEngine(self._adapter, config, policy.model)
        self._prefetches: FIFOCache[str, Prefetch] = FIFOCache(_MAX_PREFETCHES)
        self._engine.start()
        await self._engine.loaded()
        self._description = describe(self._adapter)

    async def describe(self) -> ModelDescription:
        """Return what a server has to know of the policy."""
        return self._description

    async def predict(self, origin: Origin, request: PolicyRequest) -> Prediction | VLAError:
        """Answer a request, or return why it has no answer: an error that is raised here would lose its form."""
        origin.enter()
        if origin.model != self._description.fingerprint:
            return Unavailable(
                "the model is being replaced, and this server is still of the one before",
                hint="send it again: it reaches another server",
            )
        if (prefetch := self._prefetches.pop(origin.session, None)) is not None:
            prefetch.cancel()
        try:
            return await self._engine.predict(request)
        except VLAError as error:
            return error

    async def prefetch(self, origin: Origin, request: PolicyRequest) -> None:
        """Prepare, while no request waits, for the next step of a session."""
        origin.enter()
        if origin.model != self._description.fingerprint:
            return
        self._prefetches[origin.session] = self._engine.prefetch(request)

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Tell Serve what `fleet.autoscaling` decides by."""
        return self._engine.load

    def check_health(self) -> None:
        """Have Serve replace this replica where its policy has failed.

        Raises:
            ModelUnavailable: with the reason.
        """
        _ = self._engine.spec

    async def __del__(self) -> None:
        """Answer what is on the device, and end; Serve calls it once no request waits."""
        engine = getattr(self, "_engine", None)
        if engine is not None:
            await asyncio.shield(engine.close())
        self._folder.close()
