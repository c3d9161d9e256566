"""The metadata of a policy, which the server sends when a connection opens."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

import msgspec

from vla_client.errors import ProtocolError


@dataclass(frozen=True)
class Camera:
    """One camera of a policy and the size [pixels] that it works at; the server resizes images of any size.

    Every observation must have an image of a `required` camera.
    """

    name: str
    height: int
    width: int
    required: bool = False


@dataclass(frozen=True)
class Metadata:
    """The inputs and outputs of a policy.

    `weights` is "random" if its actions mean nothing. `observation_keys` lists the accepted keys of each image and of
    the instruction; `action_names` and `action_units` describe the `action_dim` numbers of an action.

    Older servers do not send the fields that have defaults. `proprio_dim` numbers are the robot's state, None if the
    policy takes none; with `requires_proprio` every observation must have them. `control_hz` is the rate of the actions
    [1/s], None if unknown.
    """

    model: str
    revision: Optional[str]
    weights: str
    cameras: tuple[Camera, ...]
    observation_keys: dict[str, tuple[str, ...]]
    window: int
    action_horizon: int
    action_dim: int
    action_names: tuple[str, ...]
    action_units: tuple[str, ...]
    datasets: tuple[str, ...]
    default_dataset: Optional[str]
    proprio_dim: Optional[int] = None
    proprio_names: tuple[str, ...] = ()
    proprio_units: tuple[str, ...] = ()
    requires_proprio: bool = False
    takes_instruction: bool = True
    execution: str = "receding"
    """How chunks are executed where `Policy` does not say."""
    control_hz: Optional[float] = None
    """The rate of a chunk's rows [1/s]; None if the checkpoint does not say."""

    @property
    def camera_names(self) -> tuple[str, ...]:
        """The names of `cameras`, in the same order."""
        return tuple(camera.name for camera in self.cameras)


def metadata_from_greeting(greeting: Mapping[str, Any]) -> Metadata:
    """Return the metadata in a server's greeting; unknown fields are ignored.

    Raises:
        ProtocolError: a field is missing or has the wrong type.
    """
    try:
        return msgspec.convert(greeting, Metadata)
    except msgspec.ValidationError as error:
        raise ProtocolError(
            f"the server's greeting does not describe a policy: {error}",
            hint="check that the address is that of a vla-server and that its version matches the client's",
        ) from error
