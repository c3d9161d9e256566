"""Policies that LeRobot trained, served by vla_server_base."""

__version__ = "0.1.0"
