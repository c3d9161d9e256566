"""What the server sends to a worker process, and what comes back."""

from dataclasses import dataclass
from typing import Literal

from vla_server_base.errors import VLAError
from vla_server_base.scenes.messages.gltf import GltfReply, GltfRequest
from vla_server_base.scenes.messages.rollout import RolloutReply, RolloutRequest
from vla_server_base.scenes.messages.scene import RenderQuality, RenderReply, RenderRequest, Scene

RendererName = Literal["egl", "osmesa", "raycast"]
JobRequest = RenderRequest | RolloutRequest | GltfRequest
JobReply = RenderReply | RolloutReply | GltfReply


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """The settings that a worker process gets when it starts."""

    renderer: RendererName
    quality: RenderQuality
    timeout_s: float
    memory_mb: int
    max_scenes: int
    max_jobs: int
    geom_groups: tuple[int, ...] | None = None
    confinement_required: bool = False


@dataclass(frozen=True, kw_only=True)
class Confinement:
    """What the kernel denies to all threads of a scene worker, and why not everything; see docs/security.md."""

    files: bool
    """Files and devices that were not open before the first scene, except those of a graphics card."""
    network: bool
    """Sockets of every kind."""
    programs: bool
    """Running programs, and tracing or signalling others."""
    reason: str | None = None
    """Why one of these is false."""


@dataclass(frozen=True, kw_only=True)
class SceneJob:
    """A request to a worker; `scene` is None if the worker has cached `key`.

    `alone`: the worker frees all other scenes first, because this one took too much memory before.
    """

    key: str
    scene: Scene | None
    request: JobRequest
    alone: bool = False


@dataclass(frozen=True, kw_only=True)
class WorkerReply:
    """A worker's reply to a job, the keys of the scenes that it has cached now, and whether it must be restarted."""

    outcome: JobReply | VLAError
    cached: frozenset[str]
    must_restart: bool
    confinement: Confinement | None = None
    """Sent once, by a worker that is ready."""
