"""Clients that do what no HTTP library does."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

TIMEOUT_S = 30.0


@contextmanager
def connected(url: str, at: str = "127.0.0.1", **options: int) -> Iterator[socket.socket]:
    """A connection to a server from an address of this machine, with options of its socket by their names."""
    address = httpx.URL(url)
    with socket.socket() as wire:
        for name, value in options.items():
            wire.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
        wire.settimeout(TIMEOUT_S)
        wire.bind((at, 0))
        wire.connect((address.host, address.port))
        yield wire


def head(request_line: str, *headers: str) -> bytes:
    return "\r\n".join((request_line, "Host: robot", *headers, "", "")).encode()


def post(path: str, num_bytes: int, *headers: str) -> bytes:
    """The head of a POST of JSON."""
    return head(f"POST {path} HTTP/1.1", "Content-Type: application/json", f"Content-Length: {num_bytes}", *headers)


def rest_of(wire: socket.socket) -> bytes:
    """All that comes until the server closes."""
    return b"".join(iter(lambda: wire.recv(2**16), b""))


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def error_of(answer: bytes) -> dict:
    return json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
