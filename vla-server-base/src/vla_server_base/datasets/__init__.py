"""Recorded episodes on disk, as raw arrays or in LeRobot's form (`lerobot`, `lerobot_writer`; extra `datasets`)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
