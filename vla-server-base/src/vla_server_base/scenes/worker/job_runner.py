"""Runs the jobs of a scene worker: compile, simulate, render, export."""

from dataclasses import replace
from time import perf_counter

import mujoco

from vla_server_base.errors import SceneCrashed, SceneError, SceneRefused, SceneTooLarge, UnknownName, VLAError
from vla_server_base.scenes import limits
from vla_server_base.scenes.messages import (
    Cost,
    GltfReply,
    GltfRequest,
    JobReply,
    RenderedView,
    RenderReply,
    RenderRequest,
    RolloutReply,
    RolloutRequest,
    SceneJob,
    View,
    WorkerReply,
    WorkerSettings,
)
from vla_server_base.scenes.worker import confinement
from vla_server_base.scenes.worker.geometry.export import export_glb
from vla_server_base.scenes.worker.rendering.geom_groups import groups_to_draw
from vla_server_base.scenes.worker.rendering.renderer import Renderer
from vla_server_base.scenes.worker.scene import compile_scene, is_out_of_memory, scene_error
from vla_server_base.scenes.worker.scene_cache import CachedScene, SceneCache
from vla_server_base.scenes.worker.scene_cameras import camera_name, pick_cameras
from vla_server_base.scenes.worker.scene_state import apply_state
from vla_server_base.scenes.worker.screening import screen
from vla_server_base.scenes.worker.simulation.rollout import Simulation

ADDRESS_SPACE_PER_MEMORY = 4
"""Address space for each byte that a scene may have resident: MuJoCo reserves arenas of which it touches little.

robosuite's Lift reserves 1.3 GB for a simulation that touches 10 MB of it. Cached scenes take up to half.
"""

CPU_PER_SECOND = 4
"""Processor seconds for each second that a job may take, in case the server is too busy to end it."""


class JobRunner:
    """Runs one job after another, and caches the scenes of the last ones."""

    def __init__(self, renderer: Renderer, settings: WorkerSettings):
        self._renderer = renderer
        self._settings = settings
        self._scenes = SceneCache(ADDRESS_SPACE_PER_MEMORY // 2 * settings.memory_mb * 2**20)
        self._num_compiled = self._num_jobs = 0

    def reply(self, job: SceneJob) -> WorkerReply:
        """Run a job and always reply; `must_restart` if the job may have damaged this process."""
        confinement.limit_cpu(CPU_PER_SECOND * self._settings.timeout_s)
        self._num_jobs += 1
        if job.alone:
            self._scenes.free_others(job.key)
        outcome = self._outcome(job)
        if isinstance(outcome, SceneTooLarge) and self._scenes.free_others(job.key):
            outcome = self._outcome(job)
        worn_out = self._num_compiled >= self._settings.max_scenes or self._num_jobs >= self._settings.max_jobs
        return WorkerReply(
            outcome=outcome,
            cached=self._scenes.keys,
            must_restart=worn_out or isinstance(outcome, SceneCrashed),
        )

    def _outcome(self, job: SceneJob) -> JobReply | VLAError:
        try:
            return self.run(job)
        except VLAError as error:
            return error
        except Exception as error:
            if isinstance(error, ValueError) or is_out_of_memory(error):
                return scene_error(error)
            reason = " ".join(str(error).split())[:500]
            return SceneCrashed(
                f"MuJoCo failed on this scene: {reason}", hint="check the scene, which may be malformed"
            )

    def run(self, job: SceneJob) -> JobReply:
        """Run a job; its errors pass through."""
        started = perf_counter()
        scene = self._scenes.get(job.key)
        if scene is not None:
            cost = Cost(num_bytes=scene.num_bytes)
        else:
            scene = self._compile(job)
            cost = Cost(compile_ms=(perf_counter() - started) * 1e3, num_bytes=scene.num_bytes)
        if isinstance(job.request, RenderRequest):
            return _render(scene, job.request, cost)
        if isinstance(job.request, GltfRequest):
            return _export(scene, job.request, cost, job.key)
        return _roll_out(scene, job.request, cost)

    def free(self, key: str) -> None:
        """Free one cached scene."""
        self._scenes.free(key)

    def _compile(self, job: SceneJob) -> CachedScene:
        assert job.scene is not None, "the server knows which scenes this worker has cached"
        self._num_compiled += 1
        model = compile_scene(screen(job.scene))
        data = mujoco.MjData(model)
        scene = CachedScene(
            model=model,
            data=data,
            simulation=Simulation(model, data),
            drawing=self._renderer.prepare(model),
            geom_groups=self._settings.geom_groups or groups_to_draw(model),
            num_bytes=mujoco.mj_sizeModel(model) + data.nbuffer + data.narena,
        )
        self._scenes.add(job.key, scene)
        return scene


def _render(scene: CachedScene, request: RenderRequest, cost: Cost) -> RenderReply:
    started = perf_counter()
    apply_state(scene.model, scene.data, request.state)
    view = _draw(scene, request.view)
    reply = RenderReply(view=view, cost=replace(cost, render_ms=(perf_counter() - started) * 1e3))
    return _with_proprio(reply, scene, request) if request.measures_proprio else reply


def _with_proprio(reply: RenderReply, scene: CachedScene, request: RenderRequest) -> RenderReply:
    """Add what the arm's sensors measure, or why there is no arm to measure."""
    try:
        sensors = scene.simulation.sensors(request.robot)
    except (SceneError, UnknownName) as error:
        return replace(reply, no_proprio=error.message)
    return replace(reply, proprio=sensors.measure(scene.data), proprio_names=sensors.names)


def _export(scene: CachedScene, request: GltfRequest, cost: Cost, scene_id: str) -> GltfReply:
    apply_state(scene.model, scene.data, request.state)
    return GltfReply(
        glb=export_glb(scene.model, scene.data, request.geom_groups or scene.geom_groups, scene_id), cost=cost
    )


def _roll_out(scene: CachedScene, request: RolloutRequest, cost: Cost) -> RolloutReply:
    started = perf_counter()
    reply = scene.simulation.roll_out(request)
    moved = perf_counter()
    view = _draw(scene, request.view) if request.view else None
    cost = replace(cost, physics_ms=(moved - started) * 1e3, render_ms=(perf_counter() - moved) * 1e3)
    return replace(reply, view=view, cost=cost)


def _draw(scene: CachedScene, view: View) -> RenderedView:
    """Draw the present state of the scene's data.

    Raises:
        SceneRefused: the image would be too large or empty.
        SceneError, UnknownName: no such camera.
    """
    if not (1 <= view.height <= limits.MAX_IMAGE_SIDE and 1 <= view.width <= limits.MAX_IMAGE_SIDE):
        raise SceneRefused(
            f"an image of {view.height} x {view.width} pixels cannot be rendered",
            hint=f"1 to {limits.MAX_IMAGE_SIDE} pixels along each side",
        )
    cameras = pick_cameras(scene.model, view)
    groups = view.geom_groups or scene.geom_groups
    return RenderedView(
        images={
            name: scene.drawing.draw(scene.data, camera, view.height, view.width, groups)
            for name, camera in cameras.items()
        },
        cameras={name: camera_name(scene.model, camera) for name, camera in cameras.items()},
        geom_groups=groups,
    )
