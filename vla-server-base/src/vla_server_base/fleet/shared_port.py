"""SharedPort: a port at which several servers of one application listen on a machine, and nobody else's."""

import fcntl
import os
import socket
import tempfile
from pathlib import Path

from vla_server_base.config import ConfigError

_HINT = "choose another port (VLA_PORT or --port)"
_MAX_BYTES = 1000


class SharedPort:
    """A socket that shares its port: the kernel gives each server some of the connections.

    Those that would go to a server that has ended go to the others. `application` says whose servers they are: beside
    another one's, robots would get actions of either policy.

    Raises:
        ConfigError: nothing can listen there, or another application's servers do.
    """

    def __init__(self, host: str, port: int, application: str):
        path = Path(tempfile.gettempdir()) / f"vla-servers-{os.getuid()}-{port}.lock"
        # Held for as long as this process runs, however it ends.
        self._lock = _locked(path, port, application)
        try:
            self.socket = _bound(host, port)
        except OSError as error:
            os.close(self._lock)
            raise ConfigError(f"cannot listen on {host}:{port} ({error.strerror})", hint=_HINT) from error


def _bound(host: str, port: int) -> socket.socket:
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    bound = socket.socket(family, kind)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


def _locked(path: Path, port: int, application: str) -> int:
    """Return the descriptor of a port's lock, shared with the other servers of the application that its file names."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, application.encode(), 0)
    except BlockingIOError:  # others listen there
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if (owner := os.pread(descriptor, _MAX_BYTES, 0).decode()) != application:
            os.close(descriptor)
            raise ConfigError(f"port {port} is that of another application's servers ({owner})", hint=_HINT) from None
    else:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor
