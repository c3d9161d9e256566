"""A policy whose answers a test can predict; in `contract`, the tests that every adapter package runs."""

from vla_server_base.testing.echo import EchoAdapter

__all__ = ["EchoAdapter"]
