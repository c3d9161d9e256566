"""The service as a program, for the commands that every service has."""

from lerobot_service.commands.options import COMMANDS
from lerobot_service.config import LeRobotConfig
from vla_server_base.commands.program import PolicyProgram

LEROBOT = PolicyProgram(
    name="lerobot-service",
    description="Policies that LeRobot trained, served.",
    config=LeRobotConfig,
    prefix="LEROBOT",
    commands=COMMANDS,
    adapter="lerobot_service.adapter:LeRobotAdapter",
    resize="lerobot_service.inference.images:resize_as_served",
    packages=("lerobot-service", "lerobot", "torch", "mujoco"),
    recorded="lerobot_service.commands.check:deviations",
)
