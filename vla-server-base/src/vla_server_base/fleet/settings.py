"""FleetSettings: how large a service on a cluster is, from the environment (`FLEET_*`) and from flags."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from vla_server_base.config import ConfigError, Count, Settings

Share = Annotated[float, Field(ge=0, le=1024)]


@dataclass(frozen=True, kw_only=True)
class FleetSettings(Settings):
    """A service on a cluster; only with `--engine ray`."""

    address: str = ""
    """Address of a Ray cluster, such as `auto` or `10.0.0.1:6379`; empty starts one on this machine, and ends it."""
    name: str = ""
    """Name of the application; empty for that of the service. One of this name that runs on the cluster is updated."""
    model_replicas: Count = 1
    """Copies of the policy, the least if there may be more."""
    max_model_replicas: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """The most copies of the policy, as its queue and deadlines demand; 0 for always `model_replicas`."""
    ingress_replicas: Count = 1
    """Server processes. Those on one machine share the port."""
    session_stores: Count = 2
    """Processes that keep what sessions have come to; each session is in two of them."""
    model_cpus: Share = 1.0
    """Processors that Ray reserves for a copy of the policy."""
    model_gpus: Share = 0.0
    """GPUs that Ray reserves for a copy of the policy; several may share one: 0.5."""
    ingress_cpus: Share = 1.0
    """Processors that Ray reserves for a server process."""
    scene_cpus: Share = 0.0
    """Processors that Ray reserves for a scene worker anywhere on the cluster; 0 keeps them beside their server."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_model_replicas and self.max_model_replicas < self.model_replicas:
            raise ConfigError(
                f"max_model_replicas={self.max_model_replicas} is less than model_replicas={self.model_replicas}",
                hint="give more, or leave it out",
            )
