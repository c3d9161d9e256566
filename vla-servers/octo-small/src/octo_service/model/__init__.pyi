from .octo_model import OctoModel

__all__ = ["OctoModel"]
