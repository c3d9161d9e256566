"""Ingress: supervises one server process, which holds robots' connections; a deployment of Ray Serve replaces it."""

import asyncio
import os
import pickle
import subprocess
import sys
from dataclasses import replace

import ray
from ray import serve

from vla_server_base.errors import Unavailable
from vla_server_base.fleet.server_process import READY, ServerOrder

_CHECK_S = 0.1


class Ingress:
    """One server process on the machine of this replica. No request goes through the replica itself."""

    async def __init__(self, order: ServerOrder, _model: object = None):
        """Start the server and wait until it can answer. `_model` has Serve deploy the model with it.

        Raises:
            Unavailable: the server has ended at once; its log says why.
        """
        application = serve.get_replica_context().app_name
        context = ray.get_runtime_context()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "vla_server_base.fleet.server_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "RAY_ADDRESS": context.gcs_address},
        )
        assert self._process.stdin is not None, "it is a pipe"
        assert self._process.stdout is not None, "it is a pipe"
        # Not closed: its end tells the server that this replica is gone.
        pickle.dump(replace(order, application=application), self._process.stdin)
        self._process.stdin.flush()
        if await asyncio.to_thread(self._process.stdout.readline) != READY:
            raise self._ended()

    def check_health(self) -> None:
        """Have Serve replace this replica where its server has ended.

        Raises:
            Unavailable: it has.
        """
        if self._process.poll() is not None:
            raise self._ended()

    async def __del__(self) -> None:
        """Have the server answer what it has begun, and end; Serve calls it."""
        if getattr(self, "_process", None) is None:
            return
        self._process.terminate()
        while self._process.poll() is None:
            await asyncio.sleep(_CHECK_S)

    def _ended(self) -> Unavailable:
        return Unavailable(
            f"the server process ended with the status {self._process.wait()}", hint="see this replica's log"
        )
