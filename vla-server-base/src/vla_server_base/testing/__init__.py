"""A policy whose answers a test can predict; `contract`: the tests of every adapter; `recordings`: files of others."""

from vla_server_base.testing.echo import EchoAdapter

__all__ = ["EchoAdapter"]
