"""Plays an evaluation's trials in workers on a Ray cluster, each with its own policy and scene workers.

A result depends on the policy, the trial and the settings only, so any worker may play any trial, and one whose worker
is lost is played again by another.
"""

import asyncio
import contextlib
import importlib.metadata
import logging
import math
import os
import platform
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import ray
from ray.exceptions import RayError

from vla_server_base.episodes.settings import EpisodeSettings
from vla_server_base.errors import Unavailable
from vla_server_base.fleet.cluster import answer, environment_of_actors, reason_of
from vla_server_base.machine import processor
from vla_server_base.tabletop.evaluation import LocalEpisodes, PlayedTrial
from vla_server_base.tabletop.local_episodes import EvaluationPlan, local_episodes
from vla_server_base.tabletop.profile import Profile
from vla_server_base.tabletop.trials import Trial

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
"""Workers that a trial, or a place among the workers, may lose in a row."""

ROOM_S, HINT_S = 600.0, 30.0
"""For how long the first worker may wait for a node, and after what time a line says that it does."""

CLOSE_S = 5.0
"""In which a worker may end by itself."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a process has of the one that sends it work: the current folder, and how many threads OpenMP takes.

    Ray chooses both otherwise, and PyTorch's sums depend on the threads.
    """

    folder: Path = field(default_factory=Path.cwd)
    openmp_threads: str | None = field(default_factory=lambda: os.environ.get("OMP_NUM_THREADS"))

    def enter(self) -> None:
        """Have this process be in them; a folder that this machine lacks is left out."""
        with contextlib.suppress(OSError):
            os.chdir(self.folder)
        os.environ.pop("OMP_NUM_THREADS", None)
        if self.openmp_threads is not None:
            os.environ["OMP_NUM_THREADS"] = self.openmp_threads


@dataclass(frozen=True, kw_only=True)
class WorkerReport:
    """What a worker that is ready says: what the policy says of itself, what the suite gives to it, and where it is.

    `has_to_agree` are the things on which results depend, by their names.
    """

    info: Mapping[str, Any]
    profile: Profile
    node: str
    processor: str
    has_to_agree: Mapping[str, str]


class EvaluationWorker:
    """Plays trials in a process of the cluster."""

    def __init__(self, surroundings: Surroundings):
        surroundings.enter()
        self._stack = AsyncExitStack()
        self._episodes: LocalEpisodes | None = None

    async def node(self) -> str:
        """Return the address of its machine: it has found room there."""
        return ray.util.get_node_ip_address()

    async def open(self, plan: EvaluationPlan, packages: tuple[str, ...]) -> WorkerReport:
        """Load the policy and start scene workers."""
        opened = await self._stack.enter_async_context(local_episodes(plan))
        self._episodes = opened.episodes
        versions = {name: importlib.metadata.version(name) for name in packages}
        return WorkerReport(
            info=opened.info,
            profile=opened.profile,
            node=ray.util.get_node_ip_address(),
            processor=processor(),
            has_to_agree={
                "Python": platform.python_version(),
                **versions,
                "renderer": opened.renderer,
                "device": str(opened.info["device"]),
                "weights": str(opened.info["details"].get("checkpoint_hash")),
            },
        )

    async def play(self, trial: Trial, settings: EpisodeSettings) -> PlayedTrial:
        """Play one trial."""
        assert self._episodes is not None, "a worker is opened first"
        return await self._episodes.play(trial, settings)

    async def lost(self) -> None:
        """Never return: this call fails when the worker is lost."""
        await asyncio.Event().wait()

    async def close(self) -> None:
        """End the scene workers and the policy."""
        await self._stack.aclose()


@dataclass(eq=False)
class _Worker:
    handle: Any
    is_ready: bool = False
    is_lost: bool = False


class RayEpisodes:
    """Plays trials on the cluster that this process is connected with, each worker `num_at_once`.

    `report` is that of the first worker, for which the start waits; the others join when they are ready. All have to
    agree on what results depend on. A worker that is lost is replaced.

    Raises:
        VLAError: a worker's, when it opens; see `local_episodes`.
        Unavailable: there is no room for a worker, workers differ, or too many are lost.
    """

    report: WorkerReport

    def __init__(
        self, plan: EvaluationPlan, *, num_workers: int, num_at_once: int, packages: tuple[str, ...] = ("mujoco",)
    ):
        # Keys of robots are of no use to a worker.
        self._plan = replace(plan, server=replace(plan.server, api_keys="", keys_file=""))
        self._num_workers, self._num_at_once, self._packages = num_workers, num_at_once, packages
        self._resources = _resources_of(plan, num_workers)
        self._has_room = asyncio.Event()
        self._workers: set[_Worker] = set()
        self._keepers: list[asyncio.Task[None]] = []
        # A place to play a trial, as often as there are; or why there will be none.
        self._places: asyncio.Queue[_Worker | Exception] = asyncio.Queue()

    @property
    def num_at_once(self) -> int:
        """How many trials are played at the same time when all workers are ready."""
        return self._num_workers * self._num_at_once

    @property
    def num_ready(self) -> int:
        """How many workers can play trials now."""
        return sum(worker.is_ready for worker in self._workers)

    async def __aenter__(self) -> "RayEpisodes":
        first = asyncio.get_running_loop().create_future()
        self._keepers = [asyncio.create_task(self._keep(first)) for _ in range(self._num_workers)]
        try:
            self.report = await self._first_report(first)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def play(self, trial: Trial, settings: EpisodeSettings) -> PlayedTrial:
        """Play one trial, and again in another worker if its worker is lost.

        Raises:
            VLAError: as `LocalEpisodes.play`.
            Unavailable: the trial has lost several workers, or there are none.
        """
        losses: list[str] = []
        while len(losses) < MAX_ATTEMPTS:
            worker = await self._place()
            try:
                played = await answer(worker.handle.play.remote(trial, settings))
            except RayError as error:
                worker.is_lost = True
                losses.append(reason_of(error))
                logger.warning("%s, seed %s: its worker was lost: %s", trial.task.name, trial.seed, losses[-1])
            else:
                return played
            finally:
                self._places.put_nowait(worker)
        raise Unavailable(
            f"the trial of {trial.task.name} with seed {trial.seed} has lost {len(losses)} workers: {losses[-1]}",
            hint="the logs of Ray's nodes say why, usually a lack of memory; fewer --workers take less",
        )

    async def _place(self) -> _Worker:
        """Wait for a worker that has room for a trial."""
        while True:
            place = await self._places.get()
            if isinstance(place, Exception):
                self._places.put_nowait(place)
                raise place
            if not place.is_lost:
                return place

    async def _first_report(self, first: "asyncio.Future[WorkerReport]") -> WorkerReport:
        room = asyncio.create_task(self._has_room.wait())
        resources = f"{self._resources['num_cpus']:g} CPUs and {self._resources['num_gpus']:g} GPUs"
        for seconds in (HINT_S, ROOM_S):
            await asyncio.wait([first, room], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if first.done() or room.done():
                room.cancel()
                return await first
            logger.warning("no worker has started yet: each waits for a node with %s to spare", resources)
        room.cancel()
        raise Unavailable(
            f"no node of the cluster had room for a worker, which takes {resources}",
            hint="add nodes, wait for others' work to end, or give a smaller --scene-workers",
        )

    async def _keep(self, first: "asyncio.Future[WorkerReport]") -> None:
        """Keep one worker up: start it, and another one whenever it is lost."""
        reasons: list[str] = []
        try:
            while len(reasons) < MAX_ATTEMPTS:
                worker = self._create()
                try:
                    await self._open(worker, first)
                    reasons.clear()
                    await answer(worker.handle.lost.remote())
                except RayError as error:
                    reasons.append(reason_of(error))
                    logger.warning("a worker of the evaluation was lost: %s", reasons[-1])
                finally:
                    worker.is_lost = True
                    self._workers.discard(worker)
                    ray.kill(worker.handle)
            raise Unavailable(
                f"{len(reasons)} workers in a row could not start: {reasons[-1]}",
                hint="each node needs this program's environment; the logs of Ray's nodes say more",
            )
        except Exception as error:
            if not first.done():
                first.set_exception(error)
            self._places.put_nowait(error)

    def _create(self) -> _Worker:
        kind = ray.remote(EvaluationWorker).options(
            scheduling_strategy="SPREAD", runtime_env=environment_of_actors(), **self._resources
        )
        worker = _Worker(handle=kind.remote(Surroundings()))
        self._workers.add(worker)
        return worker

    async def _open(self, worker: _Worker, first: "asyncio.Future[WorkerReport]") -> None:
        """Have a worker load the policy, check that it agrees with the first one, and give it trials to play."""
        await answer(worker.handle.node.remote())
        self._has_room.set()
        report = await answer(worker.handle.open.remote(self._plan, self._packages))
        if not first.done():
            first.set_result(report)
        _check_agreement(first.result(), report)
        worker.is_ready = True
        for _ in range(self._num_at_once):
            self._places.put_nowait(worker)

    async def _close(self) -> None:
        """End all workers, also those that do not answer."""
        closing = [answer(worker.handle.close.remote()) for worker in self._workers]
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.gather(*closing, return_exceptions=True), CLOSE_S)
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)


def _resources_of(plan: EvaluationPlan, num_workers: int) -> Mapping[str, float]:
    """Return what a worker takes of its node: a CPU for each scene worker, and its share of the cluster's GPUs."""
    has_policy_on_gpu = not plan.is_served and plan.server.device != "cpu"
    num_gpus = int(ray.cluster_resources().get("GPU", 0)) if has_policy_on_gpu else 0
    return {"num_cpus": plan.server.scene_workers, "num_gpus": gpu_share(num_workers, num_gpus)}


def gpu_share(num_workers: int, num_gpus: int) -> float:
    """Return how much of a GPU each worker takes, so that all of them find room on the GPUs; at most a whole one."""
    if not num_gpus:
        return 0.0
    # Ray counts in ten thousandths.
    return math.floor(1e4 / math.ceil(num_workers / num_gpus)) / 1e4


def _check_agreement(first: WorkerReport, other: WorkerReport) -> None:
    """Refuse a worker with another policy, renderer or release of a package; note another processor."""
    for name, value in other.has_to_agree.items():
        if value != first.has_to_agree[name]:
            raise Unavailable(
                f"the workers differ in {name}: {first.has_to_agree[name]} at {first.node}, {value} at {other.node}",
                hint="give all nodes the same image and devices; --renderer and --device choose what each of them has",
            )
    if other.processor != first.processor:
        logger.warning(
            "the worker at %s has a %s, that at %s a %s: floats may differ in their last bits",
            *(other.node, other.processor, first.node, first.processor),
        )
