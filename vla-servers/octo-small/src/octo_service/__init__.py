"""Octo, served: the reference's policy in plain JAX, behind the server that every VLA here shares."""

__version__ = "0.1.0"
