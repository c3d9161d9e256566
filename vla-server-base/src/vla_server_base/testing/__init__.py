"""A policy whose answers a test can predict; `contract`: the tests of every adapter; `recordings`: files of others."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
