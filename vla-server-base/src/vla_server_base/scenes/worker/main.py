"""The process that compiles and draws strangers' scenes: `python -m vla_server_base.scenes.worker.main`.

Reads settings and jobs from standard input, answers on standard output, ends when its input does.
"""
# pyright: reportAttributeAccessIssue=false
# (mujoco's names are in compiled modules, which pyright cannot read)

import os
import sys
from collections import OrderedDict
from dataclasses import dataclass, replace
from time import perf_counter
from typing import BinaryIO

# Before mujoco is imported: its own choice of an OpenGL library can fail that import; opengl.py chooses.
os.environ["MUJOCO_GL"] = "disable"

import mujoco

from vla_server_base.errors import RendererUnavailable, SceneCrashed, SceneRefused, SceneTooLarge, VLAError
from vla_server_base.scenes import limits
from vla_server_base.scenes.ipc import AnswerWriter, read_at_worker
from vla_server_base.scenes.messages import (
    Answer,
    Cost,
    Job,
    Pictures,
    RenderReply,
    RenderRequest,
    RolloutReply,
    RolloutRequest,
    Scene,
    View,
    WorkerSettings,
)
from vla_server_base.scenes.worker import confinement
from vla_server_base.scenes.worker.landlock import restrict_files
from vla_server_base.scenes.worker.rendering.drawing import Drawing, Renderer
from vla_server_base.scenes.worker.rendering.geom_groups import groups_to_draw
from vla_server_base.scenes.worker.rendering.renderers import import_renderer, open_renderer
from vla_server_base.scenes.worker.scene import (
    apply_state,
    camera_name,
    compile_scene,
    is_out_of_memory,
    pick_cameras,
    scene_error,
)
from vla_server_base.scenes.worker.screening import screen
from vla_server_base.scenes.worker.simulation.rollout import Simulation

MAX_HELD_SCENES = 8
MAX_HELD_BYTES = 512_000_000
"""Of compiled models; the renderer holds about as much again."""

ADDRESS_SPACE_PER_MEMORY = 4
"""Address space for each byte that a scene may have resident: MuJoCo reserves arenas of which it touches little.

robosuite's Lift reserves 1.3 GB for a simulation that touches 10 MB of it. Scenes that are held take up to half.
"""

CPU_PER_SECOND = 4
"""Processor seconds for each second that a job may take, in case the server is too busy to end it."""

PROOF_SCENE = """
<mujoco>
  <asset><texture type="skybox" builtin="flat" rgb1="0 0 1" rgb2="0 0 1" width="8" height="8"/></asset>
  <worldbody>
    <light pos="0 0 3"/>
    <geom type="box" size="0.2 0.2 0.2" rgba="1 0 0 1"/>
    <camera pos="0 0 1"/>
  </worldbody>
</mujoco>
"""


PROOF = Job(
    key="proof",
    scene=Scene(xml=PROOF_SCENE),
    request=RenderRequest(view=View(height=32, width=48)),
)


def main() -> None:
    """Serve until standard input ends."""
    confinement.end_with_parent()
    confinement.end_before_others()
    answers = AnswerWriter(_take_standard_output())
    confinement.leave_no_files()
    settings = read_at_worker(sys.stdin.buffer)
    ready, worker = _start(settings)
    answers.send(ready)
    while worker and (job := read_at_worker(sys.stdin.buffer)) is not None:
        answers.send(worker.answer(job))
    # Libraries of OpenGL crash or hang in their own endings; nothing is left that needs one.
    os._exit(0)


def _take_standard_output() -> BinaryIO:
    """Keep standard output for answers; what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def _start(settings: WorkerSettings) -> tuple[Answer, "Worker | None"]:
    """Open the renderer, prove that it draws, give up all else, and prove it again."""
    try:
        import_renderer(settings.renderer)
        # Before the graphics driver starts threads, which Landlock would not bind.
        landlocked = restrict_files(graphics_devices=settings.renderer == "egl")
        worker = Worker(open_renderer(settings.renderer, settings.quality), settings)
        worker.prove()
        confinement.limit_memory(ADDRESS_SPACE_PER_MEMORY * settings.memory_mb)
        confined = confinement.forbid_files(landlocked=landlocked)
        if confined.reason and settings.confinement_required:
            raise RuntimeError(
                f"what a scene could do here is not confined ({confined.reason}),"
                " which VLA_SCENE_CONFINEMENT=required asks for"
            )
        return Answer(outcome=worker.prove(), held=frozenset(), spent=False, confinement=confined), worker
    except Exception as error:
        why = RendererUnavailable(f"{settings.renderer} does not work here: {type(error).__name__}: {error}")
        return Answer(outcome=why, held=frozenset(), spent=True), None


@dataclass(frozen=True, kw_only=True)
class _HeldScene:
    model: mujoco.MjModel
    data: mujoco.MjData
    simulation: Simulation
    drawing: Drawing
    geom_groups: tuple[int, ...]
    num_bytes: int


class Worker:
    """Answers jobs one after another, and keeps the scenes of the last ones compiled."""

    def __init__(self, renderer: Renderer, settings: WorkerSettings):
        self._renderer = renderer
        self._settings = settings
        self._held: OrderedDict[str, _HeldScene] = OrderedDict()
        self._num_compiled = self._num_jobs = 0

    def prove(self) -> RenderReply:
        """Draw a red box before a blue sky, look at it, and forget it."""
        reply = self._work(PROOF)
        assert isinstance(reply, RenderReply)
        self._forget("proof")
        picture = reply.pictures.images["primary"]
        middle, corner = picture[16, 24].astype(int), picture[0, 0].astype(int)
        if not (middle[0] > middle[1:].max() + 50 and corner[2] > corner[:2].max() + 50):
            raise RuntimeError(f"it draws {middle.tolist()} for red and {corner.tolist()} for blue")
        return reply

    def answer(self, job: Job) -> Answer:
        """Answer whatever the job does; `spent` after what may have left this process unwell."""
        confinement.limit_cpu(CPU_PER_SECOND * self._settings.timeout_s)
        self._num_jobs += 1
        if job.alone:
            self._forget_others(job.key)
        outcome = self._outcome(job)
        if isinstance(outcome, SceneTooLarge) and self._held.keys() - {job.key}:
            self._forget_others(job.key)
            outcome = self._outcome(job)
        worn = self._num_compiled >= self._settings.max_scenes or self._num_jobs >= self._settings.max_jobs
        return Answer(outcome=outcome, held=frozenset(self._held), spent=worn or isinstance(outcome, SceneCrashed))

    def _outcome(self, job: Job) -> RenderReply | RolloutReply | VLAError:
        try:
            return self._work(job)
        except VLAError as error:
            return error
        except Exception as error:
            if isinstance(error, ValueError) or is_out_of_memory(error):
                return scene_error(error)
            said = " ".join(str(error).split())[:500]
            return SceneCrashed(f"MuJoCo broke off at this scene: {said}", hint="it may be malformed")

    def _work(self, job: Job) -> RenderReply | RolloutReply:
        started = perf_counter()
        scene, compiled_now = self._compiled(job)
        compile_ms = (perf_counter() - started) * 1e3 if compiled_now else 0.0
        cost = Cost(compile_ms=compile_ms, num_bytes=scene.num_bytes)
        if isinstance(job.request, RenderRequest):
            return self._render(scene, job.request, cost)
        return self._roll_out(scene, job.request, cost)

    def _render(self, scene: _HeldScene, request: RenderRequest, cost: Cost) -> RenderReply:
        started = perf_counter()
        apply_state(scene.model, scene.data, request.state)
        pictures = _draw(scene, request.view)
        return RenderReply(pictures=pictures, cost=replace(cost, render_ms=(perf_counter() - started) * 1e3))

    def _roll_out(self, scene: _HeldScene, request: RolloutRequest, cost: Cost) -> RolloutReply:
        started = perf_counter()
        reply = scene.simulation.roll_out(request)
        moved = perf_counter()
        pictures = _draw(scene, request.view) if request.view else None
        cost = replace(cost, physics_ms=(moved - started) * 1e3, render_ms=(perf_counter() - moved) * 1e3)
        return replace(reply, pictures=pictures, cost=cost)

    def _compiled(self, job: Job) -> tuple[_HeldScene, bool]:
        if job.key in self._held:
            self._held.move_to_end(job.key)
            return self._held[job.key], False
        assert job.scene is not None, "the server knows which scenes this worker holds"
        self._num_compiled += 1
        model = compile_scene(screen(job.scene))
        data = mujoco.MjData(model)
        scene = _HeldScene(
            model=model,
            data=data,
            simulation=Simulation(model, data),
            drawing=self._renderer.prepare(model),
            geom_groups=self._settings.geom_groups or groups_to_draw(model),
            num_bytes=mujoco.mj_sizeModel(model) + data.nbuffer + data.narena,
        )
        self._held[job.key] = scene
        while len(self._held) > 1 and self._holds_too_much():
            self._forget(next(iter(self._held)))
        return scene, True

    def _holds_too_much(self) -> bool:
        model_bytes = sum(mujoco.mj_sizeModel(scene.model) for scene in self._held.values())
        reserved_bytes = sum(scene.num_bytes for scene in self._held.values())
        most_reserved = ADDRESS_SPACE_PER_MEMORY // 2 * self._settings.memory_mb * 2**20
        return len(self._held) > MAX_HELD_SCENES or model_bytes > MAX_HELD_BYTES or reserved_bytes > most_reserved

    def _forget_others(self, key: str) -> None:
        for other in self._held.keys() - {key}:
            self._forget(other)

    def _forget(self, key: str) -> None:
        self._held.pop(key).drawing.free()


def _draw(scene: _HeldScene, view: View) -> Pictures:
    """Draw the state that the scene's data are in.

    Raises:
        SceneRefused: a size that is not drawn.
        SceneError, UnknownName: no such camera.
    """
    if not (1 <= view.height <= limits.MAX_PICTURE_SIDE and 1 <= view.width <= limits.MAX_PICTURE_SIDE):
        raise SceneRefused(
            f"a picture of {view.height} x {view.width} pixels is not drawn",
            hint=f"1 to {limits.MAX_PICTURE_SIDE} pixels along each side",
        )
    cameras = pick_cameras(scene.model, view.cameras)
    groups = view.geom_groups or scene.geom_groups
    return Pictures(
        images={
            name: scene.drawing.draw(scene.data, camera, view.height, view.width, groups)
            for name, camera in cameras.items()
        },
        cameras={name: camera_name(scene.model, camera) for name, camera in cameras.items()},
        geom_groups=groups,
    )


if __name__ == "__main__":
    main()
