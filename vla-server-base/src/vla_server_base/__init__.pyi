from .adapter import VLAModelAdapter
from .config import ServerConfig
from .contract import Action, ActionSpec, CameraSpec, Observation, PolicyInput, PolicySpec, Task, Window
from .errors import VLAError
from .server.app import create_vla_app
from .server.program import app_for_uvicorn

__version__: str

__all__ = [
    "Action",
    "ActionSpec",
    "CameraSpec",
    "Observation",
    "PolicyInput",
    "PolicySpec",
    "ServerConfig",
    "Task",
    "VLAError",
    "VLAModelAdapter",
    "Window",
    "app_for_uvicorn",
    "create_vla_app",
]
