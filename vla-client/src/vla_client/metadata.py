"""What a server says of its policy when a connection opens."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from vla_server_base.errors import ProtocolError


@dataclass(frozen=True, kw_only=True)
class Camera:
    """One camera of a policy, and the size [pixels] that it works at; pictures of any size are taken."""

    name: str
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a policy takes and gives.

    `weights` is "random" where answers mean nothing. `observation_keys` are the keys that the server knows each picture
    and the instruction by, `action_names` and `action_units` those of the `action_dim` numbers of an action.
    """

    model: str
    revision: str | None
    weights: str
    cameras: tuple[Camera, ...]
    observation_keys: dict[str, tuple[str, ...]]
    window: int
    action_horizon: int
    action_dim: int
    action_names: tuple[str, ...]
    action_units: tuple[str, ...]
    datasets: tuple[str, ...]
    default_dataset: str | None

    @property
    def camera_names(self) -> tuple[str, ...]:
        """The names of `cameras`, in their order."""
        return tuple(camera.name for camera in self.cameras)


def metadata_from_greeting(greeting: Mapping[str, Any]) -> Metadata:
    """Return what a server's first frame says; what is not known here is left alone.

    Raises:
        ProtocolError: it lacks what one of these servers says.
    """
    try:
        return msgspec.convert(greeting, Metadata)
    except msgspec.ValidationError as error:
        raise ProtocolError(f"the server's greeting is no vla-server's ({error})") from error
