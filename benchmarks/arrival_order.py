"""First in, first out: the order with which the server's own is compared."""

from collections import deque
from collections.abc import Callable, Iterator

from vla_server_base.fairness.claims import Claim
from vla_server_base.fairness.queue import FairQueue, Item


class ArrivalOrder(FairQueue[Item]):
    """Items in the order in which they came, whosever they are and whenever they are due."""

    def __init__(self):
        super().__init__()
        self._items: deque[tuple[Claim, Item]] = deque()

    def __bool__(self) -> bool:
        return bool(self._items)

    def __iter__(self) -> Iterator[tuple[Claim, Item]]:
        return iter(self._items)

    def put(self, claim: Claim, item: Item) -> None:
        """Add an item."""
        self._items.append((claim, item))

    def pop(self, is_ready: Callable[[Claim, Item], bool] = lambda _claim, _item: True) -> tuple[Claim, Item] | None:
        """Take the first item that is ready; None if there is none."""
        found = next((each for each in self._items if is_ready(*each)), None)
        if found is not None:
            self._items.remove(found)
        return found

    def remove(self, claim: Claim, item: Item) -> bool:
        """Remove an item, and return whether it was there."""
        found = next((each for each in self._items if each == (claim, item)), None)
        if found is not None:
            self._items.remove(found)
        return found is not None
