"""Checkpoints: from the hub or a folder to parameters."""
