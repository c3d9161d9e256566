"""A relay to a server that records the messages and may repeat an answer."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from vla_client.message_pack import unpack


class Relay:
    """Passes messages between a client and `target`: `asked` records them, `repeats` has the steps to answer twice."""

    def __init__(self, target: str):
        self._target = target
        self.asked: list[dict[str, Any]] = []
        self.repeats: set[int] = set()

    def talk(self, below: ServerConnection) -> None:
        """Go between, until either leaves."""
        with connect(self._target, compression=None, max_size=None) as above:
            try:
                below.send(above.recv())
                for frame in below:
                    self.asked.append(unpack(frame))
                    above.send(frame)
                    answer = above.recv()
                    below.send(answer)
                    if self.asked[-1]["sequence"] in self.repeats:
                        below.send(answer)
            except ConnectionClosed:
                pass


@contextmanager
def relayed(target: str) -> Iterator[tuple[Relay, str]]:
    relay = Relay(target)
    with serve(relay.talk, "127.0.0.1", 0, compression=None, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield relay, f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join()
