"""The numbers that requests may hold, each with its range, which is the same in every protocol.

Lists stop at the first item that does not fit: an error for each of a hundred thousand would take a second to make.
"""

from typing import Annotated

from pydantic import Field

from vla_server_base.schemas.json_items import MAX_ITEMS

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Step = Annotated[int, Field(ge=0, lt=2**31)]
"""A number that counts the steps of a robot, or of an episode."""
ExecutionHorizon = Annotated[int, Field(ge=1, lt=2**31)]
EnsembleWeight = Annotated[float, Field(ge=-10, le=10)]
Milliseconds = Annotated[float, Field(gt=0, le=1e9)]
Seconds = Annotated[float, Field(ge=-1e18, le=1e18)]
"""A time of any clock, also of one that counts nanoseconds."""
Hertz = Annotated[float, Field(gt=0, le=1e6)]
Metres = Annotated[float, Field(ge=-1e6, le=1e6)]
Newtons = Annotated[float, Field(gt=0, le=1e9)]
JointPosition = Annotated[float, Field(ge=-1e6, le=1e6)]
"""In radians, or in metres of a slide."""
Measurement = Annotated[float, Field(ge=-1e9, le=1e9)]
"""In metres, newtons or radians."""
Numbers = Annotated[list[float], Field(max_length=MAX_ITEMS, fail_fast=True)]
Names = Annotated[list[str], Field(fail_fast=True)]

MAX_CAMERAS = 64
ByCamera = Annotated[dict[str, str], Field(max_length=MAX_CAMERAS)]
"""A value for each of the policy's cameras, by their names."""
