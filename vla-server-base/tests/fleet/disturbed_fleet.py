"""A fleet on a cluster of two nodes, robots that it serves, and what can be lost meanwhile."""

import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import psutil
import ray
from fleet_robots import PERIOD_S, Robot, robots_of
from free_port import free_port
from one_server import one_server
from ray import serve
from ray.cluster_utils import Cluster
from ray.serve.context import _get_global_client
from two_nodes import add_node
from window_echo import EchoSettings

from vla_server_base.config import ServerConfig
from vla_server_base.fleet.application import build
from vla_server_base.fleet.cluster import lost_nodes
from vla_server_base.fleet.session_stores import NAMESPACE, end_stores, store_name
from vla_server_base.fleet.settings import FleetSettings
from vla_server_base.request_inputs import encode_png

NAME, NUM_SESSIONS = "fleet", 16
_NUM_STATELESS = 8
_STATELESS = {"image": encode_png(np.zeros((8, 8, 3), np.uint8)), "instruction": "go"}
_RECOVERY_S = 120.0


class Fleet:
    """An application on the tests' cluster, by default with two of each replica."""

    def __init__(self, cluster: Cluster, name: str = NAME, **fleet: Any):
        self.cluster, self.name = cluster, name
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._server = ServerConfig(port=port, scene_workers=1, shutdown_grace_s=20.0, renderer="raycast")
        sizes = {"model_replicas": 2, "ingress_replicas": 2, "model_cpus": 0.25, "ingress_cpus": 0.25}
        self._fleet = FleetSettings(**{**sizes, **fleet})

    def deploy(self, settings: EchoSettings, adapter: str = "window_echo:WindowEcho") -> None:
        """Deploy it, or update it to other settings; returns once all replicas are of these."""
        serve.run(build(adapter, settings, self._server, self._fleet), name=self.name, route_prefix=None)

    def end(self) -> None:
        """Delete it with all that it leaves behind."""
        serve.delete(self.name)
        end_stores(self.name, self._fleet.session_stores)

    def make_whole(self) -> None:
        """Wait until nothing is missing; where a machine was lost, replace it and have both used again."""
        wait_until(self.is_whole, "the fleet is whole")
        if not self.cluster.worker_nodes:
            add_node(self.cluster)
        if len({replica["node_id"] for replica in self._running("model")}) == 1:
            self.end()
            self.deploy(EchoSettings())

    def replicas(self, deployment: str) -> list[psutil.Process]:
        """Return the processes of a deployment's running replicas."""
        return [psutil.Process(replica["pid"]) for replica in self._running(deployment)]

    def _running(self, deployment: str) -> list[Any]:
        client = _get_global_client()
        assert client is not None
        replicas = client.get_serve_details()["applications"][self.name]["deployments"][deployment]["replicas"]
        return [replica for replica in replicas if replica["state"] == "RUNNING"]

    def servers(self) -> list[psutil.Process]:
        """Return the server processes, which the ingress replicas supervise."""
        return [child for each in self.replicas("ingress") for child in each.children()]

    def is_whole(self) -> bool:
        """Return whether there are two of everything, all of which live."""
        try:
            return len(self.replicas("model")) == 2 and len(self.servers()) == 2
        except psutil.NoSuchProcess:  # a replica that ended a moment ago
            return False


class Loop:
    """A robot's control loop, on a thread of its own, until `stop` is set."""

    def __init__(self, robot: Robot, stop: threading.Event):
        self.robot, self._stop = robot, stop
        self.failure: Exception | None = None
        self.thread = threading.Thread(target=self._run, name=robot.session_id, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        due = time.monotonic()
        try:
            while not self._stop.is_set():
                self.robot.step()
                due += PERIOD_S
                time.sleep(max(0.0, due - time.monotonic()))
            self.robot.close()
        except Exception as error:
            self.failure = error


@contextmanager
def running(robots: Sequence[Robot]) -> Iterator[None]:
    """Have robots act within the block, and check that none has failed."""
    stop = threading.Event()
    loops = [Loop(robot, stop) for robot in robots]

    def have_done(counts: Sequence[int]) -> bool:
        for loop in loops:
            if loop.failure is not None:
                raise loop.failure
        return all(len(robot.actions) >= count for robot, count in zip(robots, counts, strict=True))

    try:
        wait_until(lambda: have_done([5] * len(robots)), "all robots act")
        yield
        counts = [len(robot.actions) + 5 for robot in robots]
        wait_until(lambda: have_done(counts), "all robots go on")
    finally:
        stop.set()
        for loop in loops:
            loop.thread.join(_RECOVERY_S)


def wait_until(holds: Callable[[], bool], what: str, within_s: float = _RECOVERY_S) -> None:
    until = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < until, f"not within {within_s:.0f} s: {what}"
        time.sleep(0.05)


def check_equal_to_one_server(robots: Sequence[Robot]) -> None:
    """Compare each action with that of a server which has the policy in its own process, and was never disturbed."""
    with one_server() as url, ThreadPoolExecutor(4) as threads:
        alone = robots_of(url, len(robots), "alone")
        expected = threads.map(lambda each, robot: each.run(len(robot.actions)), alone, robots)
        for robot, actions in zip(robots, expected, strict=True):
            np.testing.assert_array_equal(robot.actions, actions, robot.session_id)


def report(event: str, robots: Sequence[Robot]) -> None:
    gaps = sorted(robot.longest_gap for robot in robots)
    num_steps = sum(len(robot.actions) for robot in robots)
    print(f"\n{event}: {num_steps} steps, longest gap {gaps[-1]:.1f} steps, median robot's {gaps[len(gaps) // 2]:.1f}")


def kill(process: psutil.Process) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.wait(_RECOVERY_S)


def lose_nothing(fleet: Fleet) -> None:
    time.sleep(1.0)


def lose_model_replica(fleet: Fleet) -> None:
    kill(fleet.replicas("model")[0])


def lose_server(fleet: Fleet) -> None:
    kill(fleet.servers()[0])


def lose_ingress_replica(fleet: Fleet) -> None:
    kill(fleet.replicas("ingress")[0])


def lose_session_store(fleet: Fleet) -> None:
    ray.kill(ray.get_actor(store_name(NAME, 0), namespace=NAMESPACE), no_restart=False)


def update(fleet: Fleet) -> None:
    """Replace all replicas, of both tiers, by ones with other settings."""
    fleet.deploy(EchoSettings(predict_s=0.006))


def lose_node(fleet: Fleet) -> None:
    """Remove the machine beside the head, with all that runs on it."""
    fleet.cluster.remove_node(next(iter(fleet.cluster.worker_nodes)))


def freeze_node(fleet: Fleet) -> None:
    """Have the machine beside the head go without a word: its connections stay open, and nothing answers on them.

    Its servers go on. They share their port with those of the head, and all robots would notice is that half of their
    connections hang.
    """
    node = next(iter(fleet.cluster.worker_nodes))
    (raylet,) = (psutil.Process(each.process.pid) for each in node.all_processes["raylet"])
    serving = {process.pid for process in (*fleet.servers(), *fleet.replicas("ingress"))}
    frozen = [process for process in (raylet, *raylet.children(recursive=True)) if process.pid not in serving]
    for process in frozen:
        process.suspend()
    try:
        with ThreadPoolExecutor(_NUM_STATELESS) as threads:
            ask = functools.partial(httpx.post, f"{fleet.url}/predict", json=_STATELESS, timeout=_RECOVERY_S)
            asked = [threads.submit(ask) for _ in range(_NUM_STATELESS)]  # half of them come to the frozen replica
            wait_until(lambda: node.node_id in lost_nodes(), "Ray notices it")
            # Their connections stay open for a minute.
            wait_until(lambda: all(each.done() for each in asked), "another replica is asked", within_s=30.0)
        assert {each.result().status_code for each in asked} == {200}
        wait_until(fleet.is_whole, "the fleet is whole on the head alone")
    finally:
        for process in frozen:
            process.kill()
        fleet.cluster.remove_node(node)


TESTED_EVENTS = (lose_model_replica, lose_server, lose_session_store, update, lose_node, freeze_node)
EVENTS = (lose_nothing, lose_ingress_replica, *TESTED_EVENTS)
