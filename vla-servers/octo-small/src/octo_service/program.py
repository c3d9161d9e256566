"""Octo's service as a program, for the commands that every service has."""

from octo_service.commands.options import COMMANDS
from octo_service.config import OctoConfig
from vla_server_base.commands.program import PolicyProgram

OCTO = PolicyProgram(
    name="octo-service",
    description="Octo, the open generalist robot policy, served.",
    config=OctoConfig,
    prefix="OCTO",
    commands=COMMANDS,
    adapter="octo_service.adapter:OctoSmallAdapter",
    resize="octo_service.preprocessing.images:resize_lanczos",
    packages=("octo-service", "jax", "mujoco"),
    recorded="octo_service.commands.recorded_outputs:deviations",
)
