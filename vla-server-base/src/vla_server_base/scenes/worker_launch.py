"""Which renderer the scene workers use here, and the settings that they start with."""

from vla_server_base.config import ServerConfig
from vla_server_base.errors import RendererUnavailable
from vla_server_base.scenes.machine_memory import machine_memory_mb
from vla_server_base.scenes.messages import RendererName, RenderQuality, WorkerSettings
from vla_server_base.scenes.scene_worker import Launch, SceneWorker

AUTO: tuple[RendererName, ...] = ("egl", "osmesa", "raycast")


async def launch_first(
    config: ServerConfig, failures: dict[str, str], launch: Launch
) -> tuple[RendererName, SceneWorker]:
    """Launch a worker with the first renderer that works here; note in `failures` why those before it do not.

    Raises:
        RendererUnavailable: no renderer works here, or not the configured one; with the reason of each.
    """
    for name in AUTO if config.renderer == "auto" else (config.renderer,):
        try:
            return name, await launch(worker_settings(config, name))
        except RendererUnavailable as error:  # noqa: PERF203
            failures[name] = error.message
    raise RendererUnavailable(
        "; ".join(failures.values()),
        hint="VLA_RENDERER=raycast needs no system library; EGL does (Debian: libegl1 libgl1)",
    )


def worker_settings(config: ServerConfig, renderer: RendererName) -> WorkerSettings:
    """Return the settings of a worker that uses this renderer."""
    return WorkerSettings(
        renderer=renderer,
        quality=RenderQuality(
            shadows=config.scene_shadows,
            reflections=config.scene_reflections,
            multisampling=config.scene_multisampling,
        ),
        timeout_s=config.scene_timeout_s,
        # Less if all workers that may be busy at once would take more than there is.
        memory_mb=min(config.scene_memory_mb, machine_memory_mb() // (config.scene_workers + 1)),
        max_scenes=config.scene_worker_max_scenes,
        max_jobs=config.scene_worker_max_jobs,
        geom_groups=tuple(int(group) for group in config.scene_geom_groups.split()) or None,
        confinement_required=config.scene_confinement == "required",
    )
