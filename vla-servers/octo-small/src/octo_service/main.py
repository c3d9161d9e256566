"""The app for uvicorn: `uvicorn octo_service.main:app`, configured by `VLA_*` and `OCTO_*` variables."""

from octo_service.adapter import OctoSmallAdapter
from octo_service.config import OctoConfig
from vla_server_base.app import create_vla_app
from vla_server_base.config import ServerConfig, config_from_environment

octo = config_from_environment(OctoConfig, "OCTO")
app = create_vla_app(
    OctoSmallAdapter(octo),
    config_from_environment(ServerConfig, "VLA"),
    model_id=octo.model,
)
