"""A trial: a task, a scene, a start and an instruction, all drawn from a seed."""

import zlib
from dataclasses import dataclass, replace
from functools import lru_cache
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Float

from vla_server_base.contract import Task
from vla_server_base.episodes.settings import EpisodeSettings
from vla_server_base.scenes.library import bundled_scene
from vla_server_base.scenes.messages import Scene, SceneState
from vla_server_base.tabletop.paraphrases import paraphrases
from vla_server_base.tabletop.placements import place_objects, resample_objects
from vla_server_base.tabletop.splits import Split
from vla_server_base.tabletop.tables import Table, TableState, table_of
from vla_server_base.tabletop.tasks import TASKS, TabletopTask
from vla_server_base.tabletop.variants import NUM_VARIANTS, scene_variant


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A task to do, and where it starts."""

    task: TabletopTask
    table: Table
    seed: int
    scene: Scene
    start: SceneState
    instruction: str

    def episode(self, **settings: object) -> tuple[Scene, Task, EpisodeSettings]:
        """Return the arguments of `episodes.play`: the scene, the task, and settings with start and success."""
        settings = {"seed": self.seed, "state": self.start, "success": self.task.success(self.table), **settings}
        return self.scene, Task(instruction=self.instruction), EpisodeSettings(**settings)  # pyright: ignore[reportArgumentType]


def draw_trial(
    task: TabletopTask, seed: int, *, robot: str = "panda", split: Split = "train", jitter: bool = True
) -> Trial:
    """Draw a trial of a task: the same seed gives the same one.

    `split` does not change scene and start; `jitter`, of lights and camera, does not change placement and instruction.

    Raises:
        UnknownName: the robot has no tabletop.
    """
    table = table_of(robot)
    random = np.random.default_rng([seed, zlib.crc32(task.name.encode())])
    variant, number = int(random.integers(NUM_VARIANTS)), random.random()
    instructions = paraphrases(task, split)
    return Trial(
        task=task,
        table=table,
        seed=seed,
        scene=scene_variant(robot, variant if jitter else None),
        start=SceneState(qpos=place_objects(home_qpos(robot), table, task, random)),
        instruction=instructions[int(number * len(instructions))],
    )


def draw_random_view(trial: Trial, now: TableState, qpos: Float[np.ndarray, " nq"], number: int) -> Trial:
    """Draw a trial with the arm as in the state `now` (`qpos`), resampled objects and a random task.

    The same trial and number give the same draw.
    """
    random = np.random.default_rng([trial.seed, 3, zlib.crc32(trial.task.name.encode()), number])
    task = list(TASKS.values())[random.integers(len(TASKS))]
    start = SceneState(qpos=resample_objects(qpos, trial.table, now.position, random))
    instructions = paraphrases(task)
    return replace(trial, task=task, start=start, instruction=instructions[random.integers(len(instructions))])


@lru_cache
def home_qpos(robot: str) -> Float[np.ndarray, " nq"]:
    """Return the joint positions of a robot's tabletop before anything is placed."""
    key = ElementTree.fromstring(bundled_scene(robot, "tabletop")).find("keyframe/key[@name='home']")
    assert key is not None, "a tabletop has a home"
    return np.array(key.attrib["qpos"].split(), float)
