"""For the tests of the fleet: one cluster for all."""

import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "protocols"))

import vla_server_base.fleet  # noqa: F401  before Ray, which then reads what is set there

# isort: split
# Ray Serve's models use pydantic as of its first release.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import ray
    import ray.serve

from ray.cluster_utils import Cluster
from two_nodes import two_nodes

from vla_server_base.fleet.cluster import start_serve


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Return the cluster; a process can have only one in its life."""
    # What the workers need to import the tests' policies, and what Ray would otherwise do outside of the tests' folder.
    environment = {
        "PYTHONPATH": str(Path(__file__).parent),
        "RAY_AUTH_MODE": "disabled",
        # A node that is gone is noticed within seconds.
        "RAY_health_check_period_ms": "500",
        "RAY_health_check_failure_threshold": "4",
        "RAY_health_check_timeout_ms": "2000",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        with two_nodes() as cluster:
            yield cluster


@pytest.fixture(scope="module")
def connected_cluster(cluster: Cluster) -> Iterator[Cluster]:
    """Return the cluster with this process connected to it."""
    ray.init(cluster.address, namespace="serve", log_to_driver=bool(os.environ.get("FLEET_LOG")))
    yield cluster
    ray.shutdown()


@pytest.fixture(scope="module")
def cluster_with_serve(connected_cluster: Cluster) -> Iterator[Cluster]:
    """Return the cluster with Ray Serve on it, and this process connected."""
    start_serve()
    yield connected_cluster
    ray.serve.shutdown()
