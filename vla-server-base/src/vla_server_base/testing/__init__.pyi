from .echo import EchoAdapter, JointEcho

__all__ = ["EchoAdapter", "JointEcho"]
