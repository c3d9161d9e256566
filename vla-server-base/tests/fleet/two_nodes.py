"""A cluster of two machines on this one: a head and another node, each a raylet of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.cluster_utils import Cluster

from vla_server_base.fleet.cluster import start_node

# Processors as Ray counts them: the fleet's processes wait more than they compute.
NODE: Any = {"num_cpus": 4, "object_store_memory": 150 * 2**20}


@contextmanager
def two_nodes() -> Iterator[Cluster]:
    """Give a cluster of two nodes, to which this process is not connected yet."""
    head: Any = {**NODE, "include_dashboard": False}
    cluster = start_node(lambda: Cluster(initialize_head=True, head_node_args=head))
    try:
        add_node(cluster)
        yield cluster
    finally:
        cluster.shutdown()


def add_node(cluster: Cluster, **sizes: Any) -> Any:
    """Start another node, and return it."""
    return start_node(lambda: cluster.add_node(**{**NODE, **sizes}))
