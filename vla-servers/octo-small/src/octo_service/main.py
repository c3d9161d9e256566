"""The app for uvicorn: `uvicorn octo_service.main:app`, configured by `VLA_*` and `OCTO_*` variables."""

from octo_service.program import OCTO
from vla_server_base.commands.serve import app_of

app = app_of(OCTO)
