"""Octo in plain JAX: the reference's class and semantics, without flax, orbax, TensorFlow or transformers."""

from octo_service.model.octo_model import OctoModel

__all__ = ["OctoModel"]
