"""A queue in which clients take turns, and the sessions of each client: a flood delays only itself."""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from vla_server_base.request_context import current_client, current_session

Item = TypeVar("Item")


@dataclass(frozen=True)
class Flow:
    """The owner of an item: a client by its address, and one of its sessions."""

    client: str
    session: str


def current_flow() -> Flow:
    """Return the owner of the present task's request."""
    return Flow(current_client.get(), current_session.get())


class FairQueue(Generic[Item]):
    """Items of several flows; within a flow, first come is first served. Not locked."""

    def __init__(self):
        # In the order in which they are served next.
        self._clients: OrderedDict[str, OrderedDict[str, deque[Item]]] = OrderedDict()

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        return bool(self._clients)

    def __iter__(self) -> Iterator[tuple[Flow, Item]]:
        """Iterate over all items, each with its flow; within a flow in order."""
        for client, sessions in self._clients.items():
            for session, items in sessions.items():
                for item in items:
                    yield Flow(client, session), item

    def put(self, flow: Flow, item: Item) -> None:
        """Add an item behind those of its flow."""
        self._clients.setdefault(flow.client, OrderedDict()).setdefault(flow.session, deque()).append(item)

    def pop(self, is_ready: Callable[[Flow, Item], bool] = lambda _flow, _item: True) -> tuple[Flow, Item] | None:
        """Take the next item of the first client in turn whose next item is ready; None if there is none."""
        for client, sessions in self._clients.items():
            session, items = next(iter(sessions.items()))
            flow = Flow(client, session)
            if is_ready(flow, items[0]):
                return flow, self._pop_from(flow)
        return None

    def _pop_from(self, flow: Flow) -> Item:
        """Take the next item of a flow, and give others the next turns."""
        sessions = self._clients.pop(flow.client)
        items = sessions.pop(flow.session)
        item = items.popleft()
        if items:
            sessions[flow.session] = items
        if sessions:
            self._clients[flow.client] = sessions
        return item

    def remove(self, flow: Flow, item: Item) -> bool:
        """Remove an item out of turn, and return whether it was in the queue."""
        sessions = self._clients.get(flow.client, OrderedDict())
        items = sessions.get(flow.session, deque())
        if item not in items:
            return False
        items.remove(item)
        if not items:
            del sessions[flow.session]
        if not sessions:
            del self._clients[flow.client]
        return True


def greediest_beside(flow: Flow, flows: Sequence[Flow]) -> Flow | None:
    """Return the flow that must give up an item for a new one of `flow`; None if that would not be fairer.

    `flows` has the flow of each waiting item. The client with the most items gives up one; if `flow` is of the same
    client, its session with the most.
    """
    client, most = Counter(each.client for each in flows).most_common(1)[0]
    of_client = Counter(each for each in flows if each.client == client)
    greediest, most_of_session = of_client.most_common(1)[0]
    if client == flow.client:
        return greediest if of_client[flow] + 1 < most_of_session else None
    num_waiting = sum(each.client == flow.client for each in flows)
    return greediest if num_waiting + 1 < most else None
