"""The adapter keeps the contract of every adapter, with every policy type."""

from vla_server_base.testing.contract import AdapterContract


class TestAdapter(AdapterContract):
    tolerance = 0.0
