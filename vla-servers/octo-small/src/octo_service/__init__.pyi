from .adapter import OctoSmallAdapter
from .config import OctoConfig
from .model.octo_model import OctoModel

__version__: str

__all__ = ["OctoConfig", "OctoModel", "OctoSmallAdapter"]
