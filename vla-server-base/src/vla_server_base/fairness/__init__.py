"""Turns between clients, and between the sessions of a client."""
