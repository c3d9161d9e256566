"""GET /tasks: the tabletop suite as presets, and its placements of the objects by seed."""

from typing import Annotated

from fastapi import APIRouter, Path

from vla_server_base.episodes.settings import EpisodeSettings
from vla_server_base.schemas.base import ErrorReply
from vla_server_base.schemas.ranges import Seed
from vla_server_base.schemas.success import success_to_body
from vla_server_base.schemas.tabletop import TaskReply, TasksReply, TrialReply, TrialState
from vla_server_base.tabletop.paraphrases import paraphrases
from vla_server_base.tabletop.tables import table_of
from vla_server_base.tabletop.tasks import TASKS, task_named
from vla_server_base.tabletop.trials import draw_trial

router = APIRouter(responses={"default": {"model": ErrorReply, "description": "Any error"}})


@router.get("/tasks", summary="The tasks of the tabletop suite")
def tasks(robot: str = "panda") -> TasksReply:
    table = table_of(robot)
    return TasksReply(
        tasks=[
            TaskReply(
                name=name,
                instruction=paraphrases(task)[0],
                robot=robot,
                scene=_scene(robot),
                success=success_to_body(task.success(table)),
            )
            for name, task in TASKS.items()
        ]
    )


@router.get("/tasks/{name}/trials/{seed}", summary="One placement of the objects for a task")
def trial(name: str, seed: Annotated[Seed, Path()], robot: str = "panda") -> TrialReply:
    # The scene as it is bundled: its jitter does not change the placement.
    drawn = draw_trial(task_named(name), seed, robot=robot, jitter=False)
    assert drawn.start.qpos is not None, "a trial places the objects"
    return TrialReply(
        instruction=drawn.instruction,
        scene=_scene(robot),
        state=TrialState(qpos=drawn.start.qpos.tolist()),
        success=success_to_body(drawn.task.success(drawn.table)),
        seed=seed,
        max_steps=EpisodeSettings().max_steps,
    )


def _scene(robot: str) -> str:
    return f"{robot}/tabletop"
