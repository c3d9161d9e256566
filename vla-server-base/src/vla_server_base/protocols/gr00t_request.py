"""A message of GR00T's clients, in the form of any of their releases."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from vla_client.message_pack import ArrayForm
from vla_server_base.errors import ProtocolError

Endpoint = Literal["get_action", "reset", "ping", "get_modality_config"]
_FLAT = ("video.", "state.", "language.", "annotation.")


@dataclass(frozen=True, kw_only=True)
class Gr00tRequest:
    """A client's message: its endpoint, its data, the form of the client's arrays, and its API key."""

    endpoint: Endpoint
    data: Mapping[str, Any]
    form: ArrayForm
    api_token: str = field(default="", repr=False)

    @property
    def is_bare(self) -> bool:
        """Whether `data` is the observation itself, as N1.5 sends it."""
        return "observation" not in self.data and any(key.startswith(_FLAT) for key in self.data)

    @property
    def observation(self) -> Mapping[str, Any]:
        """The observation and the instruction."""
        return self.data if self.is_bare else map_of_values(self.data.get("observation"), "observation")

    @property
    def is_flat(self) -> bool:
        """Whether the observation is under flat names."""
        return any(key.startswith(_FLAT) for key in self.observation)

    @property
    def lacks_robot_axis(self) -> bool:
        """Whether the observation has no axis for robots, as N1.5's clients may leave it out."""
        num_axes = {"state": 2, "video": 4}
        return self.is_bare and any(
            isinstance(value, np.ndarray) and value.ndim <= num_axes.get(name.partition(".")[0], 0)
            for name, value in self.data.items()
        )


def map_of_values(content: Any, what: str) -> Mapping[str, Any]:
    """Return content that is a map.

    Raises:
        ProtocolError: it is not one; `what` names it.
    """
    if not isinstance(content, dict):
        raise ProtocolError(
            f"{what}: expected a map of named values, got {type(content).__name__}", hint="send a map with text keys"
        )
    return content
