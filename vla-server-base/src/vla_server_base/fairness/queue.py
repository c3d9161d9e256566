"""FairQueue: items of several clients, in the order in which they are served."""

import bisect
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from vla_server_base.fairness.claims import PRIORITIES, SHARE, Claim
from vla_server_base.request_context import Priority

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Items of clients: the most urgent class first, in turns, and within a round of turns by deadline. Not locked.

    In a round, each client that waits is served once; the one whose item is due first is the next. So a deadline moves
    a client forward within a round, and buys no more turns than others have; nobody waits for more than one item of
    each other client. The sessions of a client take turns in the same way, with the turns that it has. Within a flow,
    what is due first comes first. A less urgent class is served once in `SHARE` items while it waits.
    """

    def __init__(self):
        self._classes: dict[Priority, _Clients[Item]] = {priority: _Clients() for priority in PRIORITIES}
        self._passed_over: Counter[Priority] = Counter()

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        return any(self._classes.values())

    def __iter__(self) -> Iterator[tuple[Claim, Item]]:
        """Iterate over all items, each with its claim; within a flow in order."""
        for clients in self._classes.values():
            for entry in clients.entries():
                yield entry.claim, entry.item

    def put(self, claim: Claim, item: Item) -> None:
        """Add an item."""
        self._classes[claim.priority].put(_Entry(claim, item))

    def pop(self, is_ready: Callable[[Claim, Item], bool] = lambda _claim, _item: True) -> tuple[Claim, Item] | None:
        """Take the next item of the first client in turn whose next item is ready; None if there is none."""
        for priority in sorted(PRIORITIES, key=lambda each: self._passed_over[each] < SHARE - 1):
            for entry in self._classes[priority].next_entries():
                if is_ready(entry.claim, entry.item):
                    self._classes[priority].serve(entry)
                    self._count_passed_over(priority)
                    return entry.claim, entry.item
        return None

    def _count_passed_over(self, served: Priority) -> None:
        rank = PRIORITIES.index(served)
        self._passed_over[served] = 0
        for priority in PRIORITIES[rank + 1 :]:
            self._passed_over[priority] = self._passed_over[priority] + 1 if self._classes[priority] else 0

    def remove(self, claim: Claim, item: Item) -> bool:
        """Remove an item out of turn, and return whether it was in the queue."""
        clients = self._classes[claim.priority]
        entry = next((each for each in clients.entries_of(claim) if each.item == item), None)
        if entry is not None:
            clients.remove(entry)
        return entry is not None


@dataclass(frozen=True, eq=False)
class _Entry(Generic[Item]):
    claim: Claim
    item: Item

    @property
    def due_at(self) -> float:
        return self.claim.due_at


class _Round:
    """Who has had a turn since everyone who waits has had one."""

    def __init__(self):
        self._served: set[str] = set()

    def order(self, entries: Iterable[tuple[str, _Entry[Item]]]) -> list[_Entry[Item]]:
        """Return the next entry of each name in the order of their turns."""
        return [entry for _, entry in sorted(entries, key=lambda each: (each[0] in self._served, each[1].claim.due_at))]

    def serve(self, name: str, waiting: Collection[str]) -> None:
        """Count a turn; the round ends when somebody has a second one, or when the queue is empty."""
        if name in self._served or not waiting:
            self._served.clear()
        if waiting:
            self._served.add(name)


class _Clients(Generic[Item]):
    """The items of one class, by client."""

    def __init__(self):
        self._waiting: dict[str, _Sessions[Item]] = {}
        self._round = _Round()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put(self, entry: _Entry[Item]) -> None:
        self._waiting.setdefault(entry.claim.flow.client, _Sessions()).put(entry)

    def next_entries(self) -> list[_Entry[Item]]:
        return self._round.order((client, sessions.next_entry()) for client, sessions in self._waiting.items())

    def serve(self, entry: _Entry[Item]) -> None:
        client = entry.claim.flow.client
        self._waiting[client].serve(entry)
        self._forget_if_empty(client)
        self._round.serve(client, self._waiting)

    def entries(self) -> Iterator[_Entry[Item]]:
        for sessions in self._waiting.values():
            for entries in sessions.waiting.values():
                yield from entries

    def entries_of(self, claim: Claim) -> list[_Entry[Item]]:
        sessions = self._waiting.get(claim.flow.client)
        return [] if sessions is None else sessions.waiting.get(claim.flow.session, [])

    def remove(self, entry: _Entry[Item]) -> None:
        self._waiting[entry.claim.flow.client].remove(entry)
        self._forget_if_empty(entry.claim.flow.client)

    def _forget_if_empty(self, client: str) -> None:
        if not self._waiting[client].waiting:
            del self._waiting[client]


class _Sessions(Generic[Item]):
    """The items of one client in one class, by session; those of a session by when they are due."""

    def __init__(self):
        self.waiting: dict[str, list[_Entry[Item]]] = {}
        self._round = _Round()

    def put(self, entry: _Entry[Item]) -> None:
        entries = self.waiting.setdefault(entry.claim.flow.session, [])
        bisect.insort(entries, entry, key=lambda each: each.claim.due_at)

    def next_entry(self) -> _Entry[Item]:
        return self._round.order((session, entries[0]) for session, entries in self.waiting.items())[0]

    def serve(self, entry: _Entry[Item]) -> None:
        self.remove(entry)
        self._round.serve(entry.claim.flow.session, self.waiting)

    def remove(self, entry: _Entry[Item]) -> None:
        session = entry.claim.flow.session
        self.waiting[session].remove(entry)
        if not self.waiting[session]:
            del self.waiting[session]
