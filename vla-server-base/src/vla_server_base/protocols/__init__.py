"""Protocols of clients that labs already have: one file each, bytes in, bytes out, no sockets."""
