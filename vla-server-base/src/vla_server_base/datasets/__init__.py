"""Recorded episodes on disk: LeRobot datasets (extra `datasets`), HDF5, RLDS, and the training cache."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
