"""Fair shares between clients, and between the sessions of a client: a flood of requests delays only itself."""

import os
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar

from vla_server_base.request_context import current_client, current_session

Item = TypeVar("Item")
P = ParamSpec("P")
T = TypeVar("T")


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


class FairThreads(ThreadPoolExecutor):
    """A pool of threads of which one client has at most half at a time; work of no client counts as one more's.

    Whose work it is, is read off the context in which it is submitted.
    """

    def __init__(self, num_threads: int, name: str):
        super().__init__(num_threads, thread_name_prefix=name)
        self._max_per_client = max(1, num_threads // 2)
        self._lock = threading.Lock()  # guards the fields below
        self._waiting: FairQueue[tuple[Future[Any], Callable[[], Any]]] = FairQueue()
        self._num_running: Counter[str] = Counter()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Have a thread do this when it is its client's turn."""
        future: Future[T] = Future()
        with self._lock:
            self._waiting.put(current_flow(), (future, lambda: fn(*args, **kwargs)))
        super().submit(self._work)
        return future

    def _work(self) -> None:
        """Run what waits until nothing more may run."""
        while (work := self._take()) is not None:
            client, future, function = work
            try:
                _run(future, function)
            finally:
                with self._lock:
                    self._num_running[client] -= 1
                    self._num_running += Counter()  # forget who has none

    def _take(self) -> tuple[str, "Future[Any]", Callable[[], Any]] | None:
        with self._lock:
            work = self._waiting.pop(lambda flow, _: self._num_running[flow.client] < self._max_per_client)
            if work is None:
                return None
            flow, (future, function) = work
            self._num_running[flow.client] += 1
            return flow.client, future, function


def _run(future: "Future[T]", function: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)


def num_threads() -> int:
    """Return how many threads read requests: twice what the machine has processors for, and some that wait."""
    return 2 * (os.cpu_count() or 1) + 4
