"""Who waits for a scene worker: clients in turn, so that one's flood costs the others no more than a place."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from vla_server_base.errors import Overloaded, VLAError
from vla_server_base.scenes.worker_process import WorkerProcess


@dataclass(frozen=True, eq=False, kw_only=True)
class Place:
    """One job that waits: whose it is, for which scene, and the worker that it will get.

    `again`: its first worker was lost. It comes before all others, and is never refused.
    """

    client: str
    key: str
    again: bool = False
    worker: "asyncio.Future[WorkerProcess]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class WaitingLine:
    """Places in the order in which they are served: each client's first, the one served longest ago before the rest.

    Where all `num_places` are taken, the client that has the most of them gives up its last one for one that has fewer.
    """

    def __init__(self, num_places: int):
        self._num_places = num_places
        self._again: deque[Place] = deque()
        self._clients: OrderedDict[str, deque[Place]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many wait, those who wait again aside."""
        return sum(len(places) for places in self._clients.values())

    def join(self, place: Place) -> None:
        """Take a place at the end of its client's.

        Raises:
            Overloaded: there is none left, and no client has more than this one.
        """
        if place.again:
            self._again.append(place)
            return
        if len(self) >= self._num_places:
            self._make_room(place.client)
        self._clients.setdefault(place.client, deque()).append(place)

    def _make_room(self, client: str) -> None:
        error = Overloaded(f"{len(self)} scenes are waiting to be drawn", hint="try again in a second")
        greediest = max(self._clients, key=lambda other: len(self._clients[other]))
        if len(self._clients[greediest]) <= len(self._clients.get(client, ())):
            raise error
        self.refuse(self._clients[greediest][-1], error)

    def refuse(self, place: Place, error: VLAError) -> None:
        """Tell whoever waits here that nothing comes of it."""
        self.leave(place)
        if not place.worker.done():
            place.worker.set_exception(error)

    def leave(self, place: Place) -> bool:
        """Give up a place; return whether there was one."""
        places = self._again if place.again else self._clients.get(place.client, deque())
        if place not in places:
            return False
        places.remove(place)
        if not places and not place.again:
            del self._clients[place.client]
        return True

    def serve(self, place: Place) -> None:
        """Have a place left by who now gets a worker; its client's next turn is after all others'."""
        self.leave(place)
        if place.client in self._clients:
            self._clients.move_to_end(place.client)

    def in_turn(self) -> Iterator[Place]:
        """Return those whose turn it may be, first come first."""
        return iter([*self._again, *(places[0] for places in self._clients.values())])

    def everyone(self) -> list[Place]:
        """Return all who wait."""
        return [*self._again, *(place for places in self._clients.values() for place in places)]
