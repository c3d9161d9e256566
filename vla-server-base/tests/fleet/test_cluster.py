"""Connecting to a cluster, and starting one."""

import inspect

import pytest
import ray
from ray._private.node import Node

from vla_server_base.config import ConfigError
from vla_server_base.fleet.cluster import MAX_STARTS, TOO_SLOW, connected, start_node


def test_a_cluster_of_another_release_is_refused_with_both(cluster, monkeypatch):
    monkeypatch.setattr(ray, "__version__", "2.59.0")
    with (
        pytest.raises(
            ConfigError, match=r"runs Ray \S+ and Python 3\.\S+, this program Ray 2\.59\.0 and Python 3\."
        ) as refused,
        connected(cluster.address),
    ):
        pass
    assert "environment of this program" in refused.value.hint
    assert not ray.is_initialized()


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1 .*refused"),
        ("127.0.0.1:port", "no Ray cluster answers at 127.0.0.1:port"),
        ("ray://127.0.0.1:10001", "'ray://127.0.0.1:10001' is not the address of a cluster's head"),
    ],
)
def test_where_there_is_no_cluster_is_said_at_once(address, says):
    with pytest.raises(ConfigError, match=says) as refused, connected(address):
        pass
    assert "HOST:PORT" in refused.value.hint


def test_a_node_that_is_too_slow_is_started_again(caplog):
    assert TOO_SLOW in " ".join(inspect.getsource(Node).replace('"', "").split())  # as Ray says it
    tries = []

    def start(num_slow: int) -> str:
        tries.append(num_slow)
        if len(tries) <= num_slow:
            raise Exception(f"The current node {TOO_SLOW}. This could happen")
        return "a node"

    assert (start_node(lambda: start(2)), len(tries)) == ("a node", 3)
    assert "(attempt 2 of 3)" in caplog.text
    tries.clear()
    with pytest.raises(RuntimeError, match="3 times"):
        start_node(lambda: start(MAX_STARTS))
    tries.clear()
    with pytest.raises(ZeroDivisionError):
        start_node(lambda: start(0) and 1 / 0)
    assert len(tries) == 1
