from .echo import EchoAdapter

__all__ = ["EchoAdapter"]
