"""`octo-service evaluate`: how often a policy does the tabletop suite's tasks, in closed loop."""

import asyncio
import dataclasses
import importlib.metadata
import os
import platform
import re
import shlex
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from octo_service.adapter import OctoSmallAdapter
from octo_service.config import OctoConfig
from octo_service.progress import Progress
from vla_server_base.config import ServerConfig, config_from_environment
from vla_server_base.episodes import EpisodeSettings, Policy
from vla_server_base.errors import RequestError
from vla_server_base.policies import HttpPolicy, LastObservations, load_policy
from vla_server_base.scenes.pool import ScenePool
from vla_server_base.tabletop.evaluation import (
    FIRST_SEED,
    Episodes,
    LocalEpisodes,
    PlayedTrial,
    RemoteEpisodes,
    evaluate,
    listening_trials,
)
from vla_server_base.tabletop.phrasings import Split
from vla_server_base.tabletop.results import Part, Results
from vla_server_base.tabletop.tally import listening_table, success_table
from vla_server_base.tabletop.tasks import tasks_beginning
from vla_server_base.tabletop.trials import Trial, draw_trial
from vla_server_base.tabletop.variants import with_patience


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Run the tabletop suite against a checkpoint or a server; print success per task, as Markdown."""

    policy: Annotated[str, tyro.conf.Positional]
    """A server's address (http://...) or a checkpoint: a folder, hf://, random://."""

    tasks: tuple[str, ...] = ()
    """Tasks by name, or by how their names begin (pick_up, push); all by default."""

    trials: int = 50
    """Trials of each task."""

    seed: int = FIRST_SEED
    """The first trial's; the others' follow it. Trials for training have seeds below the default."""

    split: Split = "train"
    """Whether tasks are said as in training, or in ways that were held out; scenes and starts are the same."""

    listening: int | None = None
    """Scenes in which each object is asked for in turn; by default `trials` where something is to be picked up."""

    robot: str = "panda"
    """Whose tabletop."""

    through: Literal["predict", "execute"] = "predict"
    """Of a server: ask for each action and simulate here, or have whole episodes run there."""

    execution_horizon: int = 1
    """Actions of each chunk that are executed before the policy is asked again."""

    ensemble_weight: float | None = None
    """Average what overlapping chunks say, with weights exp(-w i), the oldest i = 0."""

    latency_ms: float = 0.0
    """Simulated time that passes while the policy thinks."""

    window: int | None = None
    """How many observations the policy is shown; all that it takes by default, the rest is padding."""

    max_steps: int = 75
    """Actions after which a trial has failed: 15 s at 5 Hz."""

    videos: Path | None = None
    """A folder for animations of failures."""

    max_videos: int = 20
    """At most so many in that folder."""

    out: Path | None = None
    """A file for the results, as JSON lines; trials that it holds already are not run again."""

    server: ServerConfig = field(default_factory=partial(config_from_environment, ServerConfig, "VLA"))
    octo: OctoConfig = field(default_factory=partial(config_from_environment, OctoConfig, "OCTO"))

    def run(self) -> None:
        """Evaluate and print the report; what was found is printed also where it ends early."""
        found: list[Results] = []
        try:
            asyncio.run(self._evaluate(found))
        finally:
            if found and found[0].found:
                print(self._report(found[0]))

    async def _evaluate(self, found: list[Results]) -> None:
        parts = self._trials()
        # Here twice as many as are simulated at once, so that no worker waits for the policy.
        num_at_once = self.server.scene_workers * (2 if self.through == "predict" else 1)
        async with self._episodes() as (episodes, policy):
            results = Results(self.out, self._conditions(policy), _circumstances(policy))
            found.append(results)
            for part, trials in parts.items():
                left = [trial for trial in trials if (part, trial.task.name, trial.seed) not in results.found]
                playing = evaluate(episodes, left, self._settings(), num_at_once=num_at_once)
                progress = Progress(part, len(left))
                async with aclosing(playing):
                    async for played in playing:
                        results.add(part, played.result)
                        progress.show(played.result.success)
                        self._keep_video(played)

    def _trials(self) -> Mapping[Part, list[Trial]]:
        tasks = tasks_beginning(self.tasks)
        seeds = range(self.seed, self.seed + self.trials)
        draw = partial(draw_trial, robot=self.robot, split=self.split)
        num_scenes = self.listening
        if num_scenes is None:
            num_scenes = self.trials * any(task.verb == "pick_up" for task in tasks)
        scenes = range(self.seed, self.seed + num_scenes)
        return {
            # By turns, so that what was found by an interruption is of all tasks.
            "suite": [draw(task, seed) for seed in seeds for task in tasks],
            "listening": list(listening_trials(scenes, robot=self.robot, split=self.split)),
        }

    @asynccontextmanager
    async def _episodes(self) -> AsyncIterator[tuple[Episodes, Mapping[str, Any]]]:
        """Give where trials are played, and what the policy says of itself."""
        is_remote = self.policy.startswith(("http://", "https://"))
        if self.through == "execute":
            if not is_remote or self.window is not None:
                raise RequestError("--through execute is for a server's address, and without --window")
            async with HttpPolicy(self.policy, self.octo.dataset) as server:
                yield RemoteEpisodes(server=server), server.info
            return
        async with ScenePool(with_patience(self.server)) as pool:
            if is_remote:
                async with HttpPolicy(self.policy, self.octo.dataset) as policy:
                    yield self._local(policy, pool, policy.info), policy.info
                return
            adapter = OctoSmallAdapter(self.octo)
            async with load_policy(adapter, self.policy, config=self.server) as policy:
                info = dataclasses.asdict(adapter.spec)
                yield self._local(policy, pool, info), info

    def _local(self, policy: Policy, pool: ScenePool, info: Mapping[str, Any]) -> LocalEpisodes:
        if not 1 <= self.execution_horizon <= info["horizon"]:
            raise RequestError(
                f"--execution-horizon {self.execution_horizon}: the policy's chunks have {info['horizon']}"
            )
        if self.ensemble_weight is not None and self.execution_horizon > 1:
            raise RequestError("--execution-horizon and --ensemble-weight exclude one another")
        shown = policy if self.window is None else LastObservations(policy, self.window)
        return LocalEpisodes(policy=shown, world=pool)

    def _settings(self) -> EpisodeSettings:
        return EpisodeSettings(
            max_steps=self.max_steps,
            execution_horizon=self.execution_horizon,
            ensemble_weight=self.ensemble_weight,
            latency_s=self.latency_ms / 1e3,
            with_pictures=self.videos is not None,
        )

    def _conditions(self, policy: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what makes two runs the same evaluation."""
        names = ("split", "robot", "through", "execution_horizon", "ensemble_weight", "latency_ms", "max_steps")
        own = {name: getattr(self, name) for name in names}
        return {
            "policy": policy["details"].get("checkpoint_hash", policy["model"]),
            "dataset": self.octo.dataset or policy["default_dataset"],
            "window": self.window or policy["window"],
            **own,
        }

    def _keep_video(self, played: PlayedTrial) -> None:
        if self.videos is None or played.video is None or len(list(self.videos.glob("*.webp"))) >= self.max_videos:
            return
        self.videos.mkdir(parents=True, exist_ok=True)
        said = re.sub(r"\W+", "_", played.trial.instruction)
        (self.videos / f"{played.result.task}-{played.result.seed}-{said}.webp").write_bytes(played.video)

    def _report(self, results: Results) -> str:
        command, *others = results.run.values()
        sections = [f"`{command}`: {'; '.join(others)}."]
        if suite := results.of("suite"):
            sections.append(success_table(suite))
        if listening := results.of("listening"):
            sections.append(listening_table(listening))
        return "\n\n".join(sections)


def _circumstances(policy: Mapping[str, Any]) -> Mapping[str, str]:
    """Return when, where and how this is run, for people."""
    details = policy["details"]
    packages = ("octo-service", "jax", "mujoco")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    return {
        "command": f"octo-service {shlex.join(sys.argv[1:])}",
        "date": str(date.today()),
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "versions": ", ".join((f"Python {platform.python_version()}", *versions)),
        "policy": f"{policy['model']}, step {details.get('step')}, {str(details.get('checkpoint_hash'))[:12]}"
        f" on {policy['device']}",
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.*)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else []
    return names[0] if names else platform.machine()
