"""What the loss of a process or a machine of the cluster looks like to one that asked it something."""

import ray.exceptions
import ray.serve.exceptions

LOST = (
    ray.exceptions.RayActorError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.RaySystemError,
    ray.exceptions.RpcError,
    ray.exceptions.WorkerCrashedError,
    ray.serve.exceptions.DeploymentUnavailableError,
    ray.serve.exceptions.ReplicaUnavailableError,
)
"""Errors of an actor or a replica that is lost, ends, or has not started again yet; not those that its code raises."""
