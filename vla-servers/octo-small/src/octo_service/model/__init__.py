"""Octo in plain JAX: the reference's class and semantics, without flax, orbax, TensorFlow or transformers."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
