"""A policy and scene workers of this process, opened as an evaluation needs them."""

import dataclasses
import pkgutil
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from vla_server_base.cache_folder import writable_cache
from vla_server_base.config import PolicySettings, ServerConfig
from vla_server_base.episodes.chunk_plan import check_guidance
from vla_server_base.episodes.interfaces import EpisodePolicy
from vla_server_base.episodes.policies import HttpPolicy, LastObservations, is_address, load_policy
from vla_server_base.episodes.settings import EpisodeSettings
from vla_server_base.scenes.messages import RendererName
from vla_server_base.scenes.pool import ScenePool
from vla_server_base.tabletop.evaluation import LocalEpisodes
from vla_server_base.tabletop.profile import Profile, profile_of
from vla_server_base.tabletop.variants import with_patience


@dataclass(frozen=True, kw_only=True)
class EvaluationPlan:
    """What is evaluated and how, whichever process does it.

    `policy` is a checkpoint or a server's address; `adapter` is named as `module:name`, and constructed with `config`.
    """

    policy: str
    adapter: str
    config: PolicySettings
    server: ServerConfig
    robot: str
    window: int | None
    settings: EpisodeSettings

    @property
    def is_served(self) -> bool:
        """Whether a server answers for the policy."""
        return is_address(self.policy)


@dataclass(frozen=True, kw_only=True)
class OpenEpisodes:
    """Where trials are played, what the policy says of itself, and what the suite gives to it."""

    episodes: LocalEpisodes
    info: Mapping[str, Any]
    profile: Profile
    renderer: RendererName


@asynccontextmanager
async def local_episodes(plan: EvaluationPlan) -> AsyncIterator[OpenEpisodes]:
    """Load the policy and start the scene workers in this process, for an `async with` block.

    Raises:
        ModelUnavailable, RendererUnavailable: the policy or the workers cannot be started; with the reason.
        RequestError, SceneError, UnknownName: the suite cannot give what the policy requires.
    """
    async with ScenePool(with_patience(plan.server)) as pool, _policy(plan) as (policy, info):
        profile = profile_of(policy.spec, plan.robot, plan.settings)
        check_guidance(policy, profile.execution)
        episodes = LocalEpisodes(policy=policy, world=pool)
        yield OpenEpisodes(episodes=episodes, info=info, profile=profile, renderer=pool.renderer)


@asynccontextmanager
async def _policy(plan: EvaluationPlan) -> AsyncIterator[tuple[EpisodePolicy, Mapping[str, Any]]]:
    """Give the policy that is asked for each chunk, and what it says of itself."""
    async with AsyncExitStack() as stack:
        if plan.is_served:
            server = await stack.enter_async_context(HttpPolicy(plan.policy, plan.config.dataset, priority="batch"))
            policy, info = server, server.info
        else:
            adapter = pkgutil.resolve_name(plan.adapter)(plan.config)
            cache_dir = stack.enter_context(writable_cache(plan.server.cache_dir))
            config = dataclasses.replace(plan.server, cache_dir=cache_dir)
            policy = await stack.enter_async_context(load_policy(adapter, plan.policy, config=config))
            info = dataclasses.asdict(adapter.spec)
        yield policy if plan.window is None else LastObservations(policy, plan.window), info
