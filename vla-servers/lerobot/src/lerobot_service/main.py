"""The app for uvicorn: `uvicorn lerobot_service.main:app`, configured by `VLA_*` and `LEROBOT_*` variables."""

from lerobot_service.program import LEROBOT
from vla_server_base.commands.serve import app_of

app = app_of(LEROBOT)
