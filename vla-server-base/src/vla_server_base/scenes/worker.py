"""The process that compiles and draws strangers' scenes: `python -m vla_server_base.scenes.worker`.

Reads settings and jobs from standard input, answers on standard output, ends when its input does.
"""
# pyright: reportAttributeAccessIssue=false
# (mujoco's names are in compiled modules, which pyright cannot read)

import os
import sys
from collections import OrderedDict
from dataclasses import dataclass
from time import perf_counter
from typing import BinaryIO

# Before mujoco is imported: its own choice of an OpenGL library can fail that import; opengl.py chooses.
os.environ["MUJOCO_GL"] = "disable"

import mujoco

from vla_server_base.errors import RendererUnavailable, SceneCrashed, SceneRefused, VLAError
from vla_server_base.scenes import confinement, limits
from vla_server_base.scenes.drawing import Drawing, Renderer
from vla_server_base.scenes.frames import from_worker, read_at_worker
from vla_server_base.scenes.messages import (
    Answer,
    Job,
    RenderReply,
    Scene,
    SceneState,
    WorkerSettings,
)
from vla_server_base.scenes.renderers import open_renderer
from vla_server_base.scenes.scene import apply_state, camera_name, compile_scene, pick_cameras, scene_error
from vla_server_base.scenes.screening import screen

MAX_HELD_SCENES = 8
MAX_HELD_BYTES = 512_000_000
"""Of compiled models; the renderer holds about as much again."""

MAX_COMPILED_SCENES = 300
"""After so many the worker asks to be replaced. No leak is known: 500 cycles left its memory as it was."""

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
    state=SceneState(),
    camera=None,
    wrist_camera=None,
    height=32,
    width=48,
)


def main() -> None:
    """Serve until standard input ends."""
    confinement.end_with_parent()
    answers = _take_standard_output()
    confinement.leave_no_files()
    settings = read_at_worker(sys.stdin.buffer)
    ready, worker = _start(settings)
    _send(answers, ready)
    while worker and (job := read_at_worker(sys.stdin.buffer)) is not None:
        _send(answers, worker.answer(job))
    # Libraries of OpenGL crash or hang in their own endings; nothing is left that needs one.
    os._exit(0)


def _take_standard_output() -> BinaryIO:
    """Keep standard output for answers; what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def _send(answers: BinaryIO, answer: Answer) -> None:
    answers.write(from_worker(answer))
    answers.flush()


def _start(settings: WorkerSettings) -> tuple[Answer, "Worker | None"]:
    """Open the renderer, prove that it draws, give up files and memory, and prove it again."""
    try:
        worker = Worker(open_renderer(settings.renderer, settings.quality), settings)
        worker.prove()
        confinement.limit_memory(settings.memory_mb)
        confinement.forbid_files()
        return Answer(outcome=worker.prove(), held=frozenset(), spent=False), worker
    except Exception as error:
        why = RendererUnavailable(f"{settings.renderer} does not work here: {type(error).__name__}: {error}")
        return Answer(outcome=why, held=frozenset(), spent=True), None


@dataclass(frozen=True, kw_only=True)
class _HeldScene:
    model: mujoco.MjModel
    data: mujoco.MjData
    drawing: Drawing
    num_bytes: int


class Worker:
    """Answers jobs one after another, and keeps the scenes of the last ones compiled."""

    def __init__(self, renderer: Renderer, settings: WorkerSettings):
        self._renderer = renderer
        self._settings = settings
        self._held: OrderedDict[str, _HeldScene] = OrderedDict()
        self._num_compiled = 0

    def prove(self) -> RenderReply:
        """Draw a red box before a blue sky, look at it, and forget it."""
        reply = self._render(PROOF)
        self._forget("proof")
        picture = reply.images["primary"]
        middle, corner = picture[16, 24].astype(int), picture[0, 0].astype(int)
        if not (middle[0] > middle[1:].max() + 50 and corner[2] > corner[:2].max() + 50):
            raise RuntimeError(f"it draws {middle.tolist()} for red and {corner.tolist()} for blue")
        return reply

    def answer(self, job: Job) -> Answer:
        """Answer whatever the job does; `spent` after what may have left this process unwell."""
        confinement.limit_cpu(CPU_PER_SECOND * self._settings.timeout_s)
        try:
            outcome = self._render(job)
        except VLAError as error:
            outcome = error
        except (ValueError, MemoryError) as error:
            outcome = scene_error(error)
        except Exception as error:
            said = " ".join(str(error).split())[:500]
            outcome = SceneCrashed(f"MuJoCo broke off at this scene: {said}", hint="it may be malformed")
        broken = isinstance(outcome, SceneCrashed)
        return Answer(
            outcome=outcome,
            held=frozenset(self._held),
            spent=broken or self._num_compiled >= MAX_COMPILED_SCENES,
        )

    def _render(self, job: Job) -> RenderReply:
        if not (1 <= job.height <= limits.MAX_PICTURE_SIDE and 1 <= job.width <= limits.MAX_PICTURE_SIDE):
            raise SceneRefused(
                f"a picture of {job.height} x {job.width} pixels is not drawn",
                hint=f"1 to {limits.MAX_PICTURE_SIDE} pixels along each side",
            )
        start = perf_counter()
        scene, compiled_now = self._compiled(job)
        compiled = perf_counter()
        cameras = pick_cameras(scene.model, job.camera, job.wrist_camera)
        apply_state(scene.model, scene.data, job.state)
        images = {
            name: scene.drawing.draw(scene.data, camera, job.height, job.width) for name, camera in cameras.items()
        }
        return RenderReply(
            images=images,
            cameras={name: camera_name(scene.model, camera) for name, camera in cameras.items()},
            renderer=self._settings.renderer,
            compile_ms=(compiled - start) * 1e3 if compiled_now else 0.0,
            render_ms=(perf_counter() - compiled) * 1e3,
        )

    def _compiled(self, job: Job) -> tuple[_HeldScene, bool]:
        if job.key in self._held:
            self._held.move_to_end(job.key)
            return self._held[job.key], False
        assert job.scene is not None, "the server knows which scenes this worker holds"
        self._num_compiled += 1
        model = compile_scene(screen(job.scene))
        scene = _HeldScene(
            model=model,
            data=mujoco.MjData(model),
            drawing=self._renderer.prepare(model),
            num_bytes=mujoco.mj_sizeModel(model),
        )
        self._held[job.key] = scene
        while len(self._held) > 1 and self._holds_too_much():
            self._forget(next(iter(self._held)))
        return scene, True

    def _holds_too_much(self) -> bool:
        num_bytes = sum(scene.num_bytes for scene in self._held.values())
        return len(self._held) > MAX_HELD_SCENES or num_bytes > MAX_HELD_BYTES

    def _forget(self, key: str) -> None:
        self._held.pop(key).drawing.free()


if __name__ == "__main__":
    main()
