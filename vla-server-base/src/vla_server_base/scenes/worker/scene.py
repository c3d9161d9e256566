"""Compiles a screened scene, and checks the model."""

import math
import warnings

import mujoco
import numpy as np

from vla_server_base.errors import SceneError, SceneRefused, SceneTooLarge
from vla_server_base.scenes import limits
from vla_server_base.scenes.worker.screening import ScreenedScene
from vla_server_base.scenes.worker.source_lines import SourceLines


def compile_scene(scene: ScreenedScene) -> mujoco.MjModel:
    """Compile a screened scene.

    Never `MjModel.from_xml_string`: after some scenes it spins forever in that process, MjSpec does not.

    Raises:
        SceneError: with MuJoCo's own words, which name the line where they can.
        SceneTooLarge: it needs more memory than a worker may have.
        SceneRefused: the compiled model is over a limit.
    """
    files = dict(scene.assets)
    # Flexcomps and attached models read theirs with the XML, everything else later; passing 34 MB there takes 150 ms.
    read_with_xml = files if "<flexcomp" in scene.xml or "<model " in scene.xml else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = mujoco.MjSpec.from_string(scene.xml, include=read_with_xml, assets=files).compile()
        except ValueError as error:
            raise scene_error(error, scene.lines) from error
    _check_model(model)
    return model


def scene_error(error: Exception, lines: SourceLines | None = None) -> SceneError:
    """Return MuJoCo's error as the client's, with the line numbers of the client's files."""
    reason = " ".join(str(error).split())[:500]
    reason = lines.explain(reason) if lines else reason
    if is_out_of_memory(error):
        return SceneTooLarge(f"the scene needs more memory than allowed: {reason}", hint="make it smaller; see <size>")
    return SceneError(
        f"MuJoCo cannot compile this scene: {reason}", hint="correct the MJCF at that place and send it again"
    )


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error of Python or MuJoCo means that memory ran out."""
    return isinstance(error, MemoryError) or "allocate" in str(error) or "out of memory" in str(error)


def _check_model(model: mujoco.MjModel) -> None:
    for name, cap in limits.MODEL_CAPS.items():
        if getattr(model, name) > cap.largest:
            raise SceneRefused(
                f"the scene compiles to {name}={getattr(model, name)}; the limit is {cap.largest}",
                hint=cap.reason,
            )
    extent, near, far = float(model.stat.extent), float(model.vis.map.znear), float(model.vis.map.zfar)
    if not (extent * near >= limits.MIN_NEAR_PLANE and near < far and math.isfinite(np.float32(extent * far))):
        raise SceneRefused(
            f"the camera's clipping planes are at {extent * near:.3g} and {extent * far:.3g} m",
            hint="leave out <statistic extent=...> and <map znear=... zfar=...>",
        )
    if not np.isfinite(model.qpos0).all():
        raise SceneError(
            "the scene's reference positions (qpos0) are not finite",
            hint="correct `pos` and `ref` of bodies and joints",
        )
