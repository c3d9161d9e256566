"""A trial: one task in one scene from one start, said in one way. All of it follows from a seed."""

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
from vla_server_base.tabletop.paraphrases import phrasings
from vla_server_base.tabletop.placements import lay_anew, place_objects
from vla_server_base.tabletop.splits import Split
from vla_server_base.tabletop.tables import Table, TableState, table_of
from vla_server_base.tabletop.tasks import TASKS, TabletopTask
from vla_server_base.tabletop.variants import NUM_VARIANTS, scene_variant


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Something to be done, and where it starts."""

    task: TabletopTask
    table: Table
    seed: int
    scene: Scene
    start: SceneState
    instruction: str

    def episode(self, **settings: object) -> tuple[Scene, Task, EpisodeSettings]:
        """Return what `episodes.play` takes of it: the scene, the task, and settings with start and success."""
        settings = {"seed": self.seed, "state": self.start, "success": self.task.success(self.table), **settings}
        return self.scene, Task(instruction=self.instruction), EpisodeSettings(**settings)  # pyright: ignore[reportArgumentType]


def draw_trial(
    task: TabletopTask, seed: int, *, robot: str = "panda", split: Split = "train", jitter: bool = True
) -> Trial:
    """Draw a trial of a task: the same seed gives the same one.

    Whether the phrasings are the trained or the held-out ones makes no difference to scene and start; nor does
    `jitter`, of lights and camera, to placement and phrasing.

    Raises:
        UnknownName: the robot has no tabletop.
    """
    table = table_of(robot)
    random = np.random.default_rng([seed, zlib.crc32(task.name.encode())])
    variant, number = int(random.integers(NUM_VARIANTS)), random.random()
    said = phrasings(task, split)
    return Trial(
        task=task,
        table=table,
        seed=seed,
        scene=scene_variant(robot, variant if jitter else None),
        start=SceneState(qpos=place_objects(_home(robot), table, task, random)),
        instruction=said[int(number * len(said))],
    )


def draw_glance(trial: Trial, now: TableState, qpos: Float[np.ndarray, " nq"], number: int) -> Trial:
    """Draw a trial that starts with the arm as it is `now`, where the simulation stands at `qpos`.

    Objects are laid anew around it, and the task is any. The same trial and number give the same draw.
    """
    random = np.random.default_rng([trial.seed, 3, zlib.crc32(trial.task.name.encode()), number])
    task = list(TASKS.values())[random.integers(len(TASKS))]
    start = SceneState(qpos=lay_anew(qpos, trial.table, now.position, random))
    said = phrasings(task)
    return replace(trial, task=task, start=start, instruction=said[random.integers(len(said))])


@lru_cache
def _home(robot: str) -> Float[np.ndarray, " nq"]:
    key = ElementTree.fromstring(bundled_scene(robot, "tabletop")).find("keyframe/key[@name='home']")
    assert key is not None, "a tabletop has a home"
    return np.array(key.attrib["qpos"].split(), float)
