"""A scene as a glTF file: the request and the reply."""

from dataclasses import dataclass, field

from vla_server_base.scenes.messages.scene import Cost, SceneState


@dataclass(frozen=True, kw_only=True)
class GltfRequest:
    """Write a scene in one state, with the geoms of some groups; None writes those that an image shows."""

    state: SceneState = field(default_factory=SceneState)
    geom_groups: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class GltfReply:
    """The file in its binary form, and what it cost."""

    glb: bytes
    cost: Cost
