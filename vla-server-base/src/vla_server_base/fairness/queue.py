"""A queue in which clients take turns, and the sessions of a client among themselves: a flood waits for its own."""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from vla_server_base.request_context import current_client, current_session

Item = TypeVar("Item")


@dataclass(frozen=True)
class Flow:
    """Whose an item is: a client by its address, and the session that it is for."""

    client: str
    session: str


def current_flow() -> Flow:
    """Return whose the request of this task is."""
    return Flow(current_client.get(), current_session.get())


class FairQueue(Generic[Item]):
    """Items of several flows; of each flow, first come is first served. Not locked."""

    def __init__(self):
        # In the order in which they are served next.
        self._clients: OrderedDict[str, OrderedDict[str, deque[Item]]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._clients)

    def put(self, flow: Flow, item: Item) -> None:
        """Add an item behind those of its flow."""
        self._clients.setdefault(flow.client, OrderedDict()).setdefault(flow.session, deque()).append(item)

    def pop(self, may_be_served: Callable[[str], bool] = lambda _client: True) -> tuple[Flow, Item] | None:
        """Take the next item of the client whose turn it is; None where there is none that may be served."""
        client = next(filter(may_be_served, self._clients), None)
        if client is None:
            return None
        sessions = self._clients.pop(client)
        session, items = sessions.popitem(last=False)
        item = items.popleft()
        if items:
            sessions[session] = items
        if sessions:
            self._clients[client] = sessions
        return Flow(client, session), item


def greediest_beside(flow: Flow, flows: Sequence[Flow]) -> Flow | None:
    """Return who has more items among those of these `flows` than a new one of `flow` would have; None for nobody.

    That is the client with the most; if this is the same client, its session with the most.
    """
    client, most = Counter(each.client for each in flows).most_common(1)[0]
    of_client = Counter(each for each in flows if each.client == client)
    greediest, most_of_session = of_client.most_common(1)[0]
    own = sum(each.client == flow.client for each in flows) if client != flow.client else of_client[flow]
    return greediest if own + 1 < (most if client != flow.client else most_of_session) else None
