"""`octo-service demonstrate`: experts show the tabletop suite's tasks, and what they do is recorded to learn from."""

import asyncio
import dataclasses
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, aclosing, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from octo_service.adapter import OctoSmallAdapter
from octo_service.config import OctoConfig
from octo_service.images import resize_lanczos
from octo_service.progress import Progress
from vla_server_base.config import ServerConfig, config_from_environment
from vla_server_base.datasets import DatasetForm, EpisodeWriter, form_of, open_dataset, open_writer
from vla_server_base.episodes import Policy
from vla_server_base.errors import RequestError
from vla_server_base.policies import HttpPolicy, load_policy
from vla_server_base.scenes.messages import ControlSettings
from vla_server_base.scenes.pool import ScenePool
from vla_server_base.tabletop.demonstrations import Demonstrations, DemonstrationSettings
from vla_server_base.tabletop.drivers import Lead
from vla_server_base.tabletop.evaluation import FIRST_SEED
from vla_server_base.tabletop.tasks import tasks_beginning
from vla_server_base.tabletop.trials import Trial, draw_trial
from vla_server_base.tabletop.variants import with_patience

SEEDS_IN_ROUND = 50
"""Of so many seeds at a time, trials are ordered by scene: a worker holds 8 scenes compiled, of 64."""


@dataclass(frozen=True, kw_only=True)
class Demonstrate:
    """Have experts show the tabletop suite's tasks, and record it; a second run adds what is missing."""

    out: Path
    """The folder to record to."""

    format: DatasetForm = "arrays"
    """Raw arrays, which training reads fastest, or LeRobot's parquet and video."""

    tasks: tuple[str, ...] = ()
    """Tasks by name, or by how their names begin (pick_up, push); all by default."""

    episodes_per_task: int = 100
    """Trials of each task; those in which the expert fails are left out."""

    seed: int = 0
    """The first trial's; the others' follow it."""

    robot: str = "panda"
    """Whose tabletop."""

    sizes: tuple[str, ...] = ("primary=128", "wrist=64")
    """The policy's cameras and their sides in pixels."""

    glances: int = 0
    """With each step, so many single moments with the objects laid anew and any task, recorded to OUT-glances."""

    policy: str | None = None
    """A policy that drives at first: a checkpoint, or a server's address. The actions to learn are the expert's."""

    policy_share: float = 0.5
    """The chance that the policy does so in an episode."""

    policy_steps: int | Literal["all"] = 25
    """For how many steps at most, drawn from 0 to this; `all` lets it drive to the end."""

    policy_horizon: int = 1
    """Actions of each of its chunks that are executed before it is asked again."""

    workers: int = 2
    """Processes that simulate and draw."""

    def run(self) -> None:
        """Record, and say how much."""
        asyncio.run(self._demonstrate())

    async def _demonstrate(self) -> None:
        sides, recorded = self._sides(), recorded_trials(self.out)
        trials = [trial for trial in self._trials() if (trial.task.name, trial.seed) not in recorded]
        server = config_from_environment(ServerConfig, "VLA")
        server = with_patience(dataclasses.replace(server, scene_workers=self.workers))
        progress, num_recorded = Progress("demonstrations", len(trials)), 0
        with ExitStack() as writers:
            writer = writers.enter_context(closing(self._writer(self.out)))
            glances = writers.enter_context(closing(self._writer(self.glances_out))) if self.glances else None
            async with ScenePool(server) as pool, self._lead(server) as lead:
                settings = DemonstrationSettings(
                    picture_sides=sides, resize=resize_lanczos, lead=lead, glances=self.glances
                )
                # As many again as are simulated at once, so that no worker waits for this process.
                making = Demonstrations(pool, trials, settings, keep_failures=True, num_at_once=2 * self.workers)
                async with aclosing(aiter(making)) as demonstrations:
                    async for demonstration in demonstrations:
                        progress.show(demonstration.success)
                        for glance in demonstration.glances:
                            assert glances is not None, "none were asked for"
                            await asyncio.to_thread(glances.append, glance.recorded())
                        if demonstration.is_worth_learning:
                            await asyncio.to_thread(writer.append, demonstration.recorded())
                            num_recorded += 1
        there = f", {len(recorded)} were there" if recorded else ""
        print(f"{self.out}: {num_recorded} episodes recorded{there}; {making.num_failed} failed")

    @property
    def glances_out(self) -> Path:
        """The folder that glances are recorded to."""
        return self.out.with_name(f"{self.out.name}-glances")

    def _writer(self, folder: Path) -> EpisodeWriter:
        return open_writer(folder, self.format, ControlSettings().rate_hz, self.robot)

    def _trials(self) -> Iterator[Trial]:
        end = self.seed + self.episodes_per_task
        if end > FIRST_SEED:
            raise RequestError(
                f"trials {self.seed} to {end - 1}: those from {FIRST_SEED} on are for evaluation",
                hint="choose a smaller --seed; what a policy was shown does not say how good it is",
            )
        tasks = tasks_beginning(self.tasks)
        for start in range(self.seed, end, SEEDS_IN_ROUND):
            seeds = range(start, min(start + SEEDS_IN_ROUND, end))
            drawn = [draw_trial(task, seed, robot=self.robot) for seed in seeds for task in tasks]
            yield from sorted(drawn, key=lambda trial: trial.scene.key)

    def _sides(self) -> Mapping[str, int]:
        given = [re.fullmatch(r"(primary|wrist)=([1-9]\d*)", size) for size in self.sizes]
        if not all(given):
            raise RequestError(f"--sizes {' '.join(self.sizes)}", hint="as in --sizes primary=128 wrist=64")
        return {match[1]: int(match[2]) for match in given if match}

    @asynccontextmanager
    async def _lead(self, server: ServerConfig) -> AsyncIterator[Lead | None]:
        if self.policy is None:
            yield None
            return
        octo = config_from_environment(OctoConfig, "OCTO")
        if self.policy.startswith(("http://", "https://")):
            opened = HttpPolicy(self.policy, octo.dataset)
        else:
            opened = load_policy(OctoSmallAdapter(octo), self.policy, config=server)
        async with opened as policy:
            yield self._led_by(policy)

    def _led_by(self, policy: Policy) -> Lead:
        max_steps = None if self.policy_steps == "all" else self.policy_steps
        return Lead(policy=policy, share=self.policy_share, max_steps=max_steps, execution_horizon=self.policy_horizon)


def recorded_trials(folder: Path) -> set[tuple[str, int]]:
    """Return task and seed of the episodes that are in a folder already.

    Raises:
        DatasetError: they are damaged.
    """
    if form_of(folder) is None:
        return set()
    dataset = open_dataset(folder)
    recorded = map(dataset.metadata, range(len(dataset)))
    return {(metadata.get("task", ""), metadata.get("seed", -1)) for metadata in recorded}
