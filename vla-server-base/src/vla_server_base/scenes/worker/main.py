"""The process that compiles and renders clients' scenes: `python -m vla_server_base.scenes.worker.main`.

It reads settings and jobs from standard input, replies on standard output, and ends when its input ends.
"""

import os
import sys
from typing import BinaryIO

# Before mujoco is imported: its own choice of an OpenGL library can fail that import; opengl.py chooses.
os.environ["MUJOCO_GL"] = "disable"

from vla_server_base.errors import RendererUnavailable
from vla_server_base.scenes.ipc import ReplyWriter, read_message
from vla_server_base.scenes.messages import (
    RenderReply,
    RenderRequest,
    Scene,
    SceneJob,
    View,
    WorkerReply,
    WorkerSettings,
)
from vla_server_base.scenes.worker import confinement
from vla_server_base.scenes.worker.job_runner import ADDRESS_SPACE_PER_MEMORY, JobRunner
from vla_server_base.scenes.worker.landlock import restrict_files
from vla_server_base.scenes.worker.rendering.renderer import import_renderer, open_renderer

TEST_SCENE = """
<mujoco>
  <asset><texture type="skybox" builtin="flat" rgb1="0 0 1" rgb2="0 0 1" width="8" height="8"/></asset>
  <worldbody>
    <light pos="0 0 3"/>
    <geom type="box" size="0.2 0.2 0.2" rgba="1 0 0 1"/>
    <camera pos="0 0 1"/>
  </worldbody>
</mujoco>
"""
TEST_JOB = SceneJob(key="test", scene=Scene(xml=TEST_SCENE), request=RenderRequest(view=View(height=32, width=48)))


def main() -> None:
    """Serve until standard input ends."""
    confinement.end_with_parent()
    confinement.end_before_others()
    replies = ReplyWriter(_reserve_standard_output())
    confinement.leave_no_files()
    settings = read_message(sys.stdin.buffer)
    ready, runner = _start(settings)
    replies.send(ready)
    while runner and (job := read_message(sys.stdin.buffer)) is not None:
        replies.send(runner.reply(job))
    # OpenGL libraries may crash or hang in their own exit handlers; nothing here needs one.
    os._exit(0)


def _reserve_standard_output() -> BinaryIO:
    """Keep standard output for replies; what libraries print goes to standard error."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return replies


def _start(settings: WorkerSettings) -> tuple[WorkerReply, JobRunner | None]:
    """Open the renderer, test it, confine this process, and test the renderer again."""
    try:
        import_renderer(settings.renderer)
        # Before the graphics driver starts threads, which Landlock would not bind.
        landlocked = restrict_files(graphics_devices=settings.renderer == "egl")
        runner = JobRunner(open_renderer(settings.renderer, settings.quality), settings)
        _test(runner)
        confinement.limit_memory(ADDRESS_SPACE_PER_MEMORY * settings.memory_mb)
        confined = confinement.forbid_files(landlocked=landlocked)
        if confined.reason and settings.confinement_required:
            raise RuntimeError(
                f"scene workers are not fully confined here ({confined.reason}), but VLA_SCENE_CONFINEMENT=required"
            )
        return WorkerReply(outcome=_test(runner), cached=frozenset(), must_restart=False, confinement=confined), runner
    except Exception as error:
        failure = RendererUnavailable(
            f"{settings.renderer} does not work here: {type(error).__name__}: {error}",
            hint="VLA_RENDERER=raycast needs no system library",
        )
        return WorkerReply(outcome=failure, cached=frozenset(), must_restart=True), None


def _test(runner: JobRunner) -> RenderReply:
    """Render a red box in front of a blue sky, and check the colours."""
    reply = runner.run(TEST_JOB)
    assert isinstance(reply, RenderReply)
    runner.free(TEST_JOB.key)
    image = reply.view.images["primary"]
    middle, corner = image[16, 24].astype(int), image[0, 0].astype(int)
    if not (middle[0] > middle[1:].max() + 50 and corner[2] > corner[:2].max() + 50):
        raise RuntimeError(f"it renders {middle.tolist()} for red and {corner.tolist()} for blue")
    return reply


if __name__ == "__main__":
    main()
