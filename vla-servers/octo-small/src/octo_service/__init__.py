"""Octo, served: the reference's policy in plain JAX, behind the server that every policy here shares."""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
