"""Fair shares between clients, and between the sessions of a client: a flood of requests waits for itself."""

import os
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar

from vla_server_base.request_context import current_client, current_session

Item = TypeVar("Item")
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Flow:
    """The owner of an item: a client, by its address, and the session that the item is for."""

    client: str
    session: str


def current_flow() -> Flow:
    """Return the flow of the request that this task answers."""
    return Flow(current_client.get(), current_session.get())


class FairQueue(Generic[Item]):
    """A queue in which clients take turns, and the sessions of a client take turns; first in, first out per flow.

    Not locked.
    """

    def __init__(self):
        # In the order in which they are served next.
        self._clients: OrderedDict[str, OrderedDict[str, deque[Item]]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._clients)

    def put(self, flow: Flow, item: Item) -> None:
        """Add an item behind the others of its flow."""
        self._clients.setdefault(flow.client, OrderedDict()).setdefault(flow.session, deque()).append(item)

    def pop(self, may_be_served: Callable[[str], bool] = lambda _client: True) -> tuple[Flow, Item] | None:
        """Remove and return the item of the client whose turn it is; None where no item may be served."""
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
    """Return the flow with more items in `flows` than `flow` would have with one more; None if there is none.

    It is a flow of the client with the most items; if that is the same client, its session with the most.
    """
    client, most = Counter(each.client for each in flows).most_common(1)[0]
    of_client = Counter(each for each in flows if each.client == client)
    greediest, most_of_session = of_client.most_common(1)[0]
    if client == flow.client:
        return greediest if of_client[flow] + 1 < most_of_session else None
    num_of_client = sum(each.client == flow.client for each in flows)
    return greediest if num_of_client + 1 < most else None


class FairThreads(ThreadPoolExecutor):
    """A pool of threads of which one client uses at most half at a time; work without a client counts as one client's.

    The context in which work is submitted names its client.
    """

    def __init__(self, num_threads: int, name: str):
        super().__init__(num_threads, thread_name_prefix=name)
        self._most_of_one = max(1, num_threads // 2)
        self._lock = threading.Lock()  # guards the fields below
        self._waiting: FairQueue[tuple[Future[Any], Callable[[], Any]]] = FairQueue()
        self._num_running: Counter[str] = Counter()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Run `fn` on a thread when its client has its turn."""
        future: Future[T] = Future()
        with self._lock:
            self._waiting.put(current_flow(), (future, lambda: fn(*args, **kwargs)))
        super().submit(self._work)
        return future

    def _work(self) -> None:
        """Run what waits, until nothing more may run."""
        while (work := self._take()) is not None:
            client, future, do = work
            try:
                _fulfil(future, do)
            finally:
                with self._lock:
                    self._num_running[client] -= 1
                    self._num_running += Counter()  # drop clients without running work

    def _take(self) -> tuple[str, "Future[Any]", Callable[[], Any]] | None:
        with self._lock:
            work = self._waiting.pop(lambda client: self._num_running[client] < self._most_of_one)
            if work is None:
                return None
            flow, (future, do) = work
            self._num_running[flow.client] += 1
            return flow.client, future, do


def _fulfil(future: "Future[T]", do: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = do()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)


def num_threads() -> int:
    """Return the number of threads that read requests: twice the processors, and a few that wait."""
    return 2 * (os.cpu_count() or 1) + 4
