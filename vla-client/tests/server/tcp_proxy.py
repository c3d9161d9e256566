"""A TCP proxy to a server that a test can cut, stall, or redirect to another server."""

import socket
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_CHUNK_BYTES = 1024


def socket_url(base_url: str) -> str:
    """The address of a server's WebSocket."""
    return base_url.replace("http", "ws", 1)


class TcpProxy:
    """Passes bytes on between its own port and `target`.

    `cut_after` counts the bytes that still pass upwards, or downwards, before the connection that they are on is cut;
    None passes all. Connections after that lead to `target_after_cut`, where there is one. What comes on connections
    from before `stall` goes nowhere, without a word. While `is_passing` is cleared for a way, what is sent that way
    waits, on every connection, and passes later.
    """

    def __init__(self, target: str):
        self.target = target
        self.target_after_cut: str | None = None
        self.cut_after: dict[str, int | None] = {"up": None, "down": None}
        self.is_passing = {"up": threading.Event(), "down": threading.Event()}
        for passing in self.is_passing.values():
            passing.set()
        self.num_connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._stalled: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self) -> None:
        """Close all connections."""
        for one in self._open:
            _close(one)

    def lead_to(self, target: str) -> None:
        """Close all connections, and lead further ones to another server."""
        self.target = target
        self.cut()

    def stall(self) -> None:
        """Let nothing pass on the connections that are open."""
        self._stalled.update(self._open)

    def close(self) -> None:
        _close(self._listener)
        self.cut()
        for passing in self.is_passing.values():
            passing.set()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                below, _ = self._listener.accept()
                self.num_connections += 1
                self._connect(below)

    def _connect(self, below: socket.socket) -> None:
        parts = urllib.parse.urlsplit(self.target)
        try:
            above = socket.create_connection((parts.hostname or "", parts.port or 80))
        except OSError:
            _close(below)
            return
        self._open += [below, above]
        for way in ((below, above, "up"), (above, below, "down")):
            thread = threading.Thread(target=self._pass_on, args=way)
            self._threads.append(thread)
            thread.start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, way: str) -> None:
        with suppress(OSError):
            while content := source.recv(_CHUNK_BYTES):
                self.is_passing[way].wait()
                left = self.cut_after[way]
                if source in self._stalled:
                    continue
                if left is not None and left < len(content):
                    self.cut_after[way] = None
                    self.target = self.target_after_cut or self.target
                    sink.sendall(content[:left])
                    break
                self.cut_after[way] = None if left is None else left - len(content)
                sink.sendall(content)
        _close(source)
        _close(sink)


@contextmanager
def proxied(target: str) -> Iterator[TcpProxy]:
    proxy = TcpProxy(target)
    try:
        yield proxy
    finally:
        proxy.close()


def _close(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
