"""The messages between the server and its scene workers: plain data, which both sides import."""

from vla_server_base.scenes.messages.control import (
    Bounds,
    ControlSettings,
    ControlState,
    Measure,
    MeasureKind,
)
from vla_server_base.scenes.messages.rollout import (
    Contact,
    Pose,
    RolloutReply,
    RolloutRequest,
    RolloutStep,
    SceneNames,
    SimulationState,
    Snapshot,
    Violation,
)
from vla_server_base.scenes.messages.scene import (
    NUM_GEOM_GROUPS,
    Cost,
    RenderedView,
    RenderQuality,
    RenderReply,
    RenderRequest,
    Scene,
    SceneState,
    View,
)
from vla_server_base.scenes.messages.worker import (
    Confinement,
    RendererName,
    SceneJob,
    WorkerReply,
    WorkerSettings,
)

__all__ = [
    "NUM_GEOM_GROUPS",
    "Bounds",
    "Confinement",
    "Contact",
    "ControlSettings",
    "ControlState",
    "Cost",
    "Measure",
    "MeasureKind",
    "Pose",
    "RenderQuality",
    "RenderReply",
    "RenderRequest",
    "RenderedView",
    "RendererName",
    "RolloutReply",
    "RolloutRequest",
    "RolloutStep",
    "Scene",
    "SceneJob",
    "SceneNames",
    "SceneState",
    "SimulationState",
    "Snapshot",
    "View",
    "Violation",
    "WorkerReply",
    "WorkerSettings",
]
