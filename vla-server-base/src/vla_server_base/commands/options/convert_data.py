"""Flags of `convert-data`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field


@dataclass(frozen=True, kw_only=True)
class ConvertData:
    """Convert recordings (RLDS, HDF5 of robomimic and ALOHA, LeRobot) to a LeRobot dataset to train on."""

    source: Annotated[Path, tyro.conf.Positional]
    """An HDF5 file or a folder of them, an RLDS dataset's folder, or a dataset of another form."""

    out: Annotated[Path, tyro.conf.Positional]
    """The folder to write to; it must not be there."""

    fps: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Timesteps a second; by default what the recording says."""

    camera: tuple[str, ...] = ()
    """Cameras as name=key, such as primary=obs/agentview_image; by default all images that are observed."""

    action_key: tuple[str, ...] = ()
    """What the action is, several arrays one behind another; `action` or `actions` by default."""

    state_key: tuple[str, ...] = ()
    """The robot's own numbers, likewise; by default those of robomimic, LIBERO, ALOHA and Open X-Embodiment."""

    instruction_key: str | None = None
    """The instruction; by default `language_instruction` or a similar key."""

    instruction: str | None = None
    """What was done in episodes that do not say it."""

    split: str = "train"
    """The part of an RLDS dataset."""

    without: tuple[str, ...] = ()
    """Episodes to leave out, by the names that errors and the dataset give them, such as 12 or demo_12."""

    lossless: bool = False
    """Store images as PNG, exactly and at any size, instead of as video."""

    robot: str | None = None
    """The robot's name in the LeRobot dataset."""
