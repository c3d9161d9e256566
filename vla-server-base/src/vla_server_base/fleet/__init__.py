"""A service on a cluster of machines, by Ray (the extra `ray`): its servers, its models and what they share."""

import os

# Ray reads these when it is first imported. Under `uv run` it would send the current folder to every node, and have
# `uv` start each process there.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
# Arguments up to so many bytes are in the call itself. By default, which is 100 kB, a robot's images would go through
# the object stores of both nodes: 10 ms of 28 that the cluster cost a step.
os.environ.setdefault("RAY_max_direct_call_object_size", str(2 * 2**20))
# Requests reach a model's replica by gRPC. As calls of a Ray actor, those of all servers would stand still for 2 to 3 s
# when one server is killed: the replica waits for the one that it was about to answer.
os.environ.setdefault("RAY_SERVE_USE_GRPC_BY_DEFAULT", "1")
