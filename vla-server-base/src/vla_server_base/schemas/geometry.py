"""The body of POST /scenes/geometry, and what the server makes of it."""

from vla_server_base.schemas.inputs import GeometryInputs
from vla_server_base.schemas.scene import SceneRequest, core_groups
from vla_server_base.schemas.state import StateField


class GeometryRequest(SceneRequest):
    """A scene, as POST /predict takes it; of the other fields only `state` and `render` matter."""

    def to_core(self) -> GeometryInputs:
        """Return the scene's state and the groups of geoms."""
        return GeometryInputs(
            state=self.state.to_core(),
            is_default_state=self.state == StateField(),
            geom_groups=core_groups(self.render),
        )
