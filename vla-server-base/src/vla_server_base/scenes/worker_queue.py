"""The requests that wait for a scene worker: clients take turns, so that one's flood does not delay the others."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from vla_server_base.errors import Overloaded, VLAError
from vla_server_base.fairness.claims import Claim, current_claim, displaced_by
from vla_server_base.fairness.queue import FairQueue
from vla_server_base.scenes.library import bundled_keys
from vla_server_base.scenes.scene_worker import SceneWorker


@dataclass(frozen=True, eq=False, kw_only=True)
class WorkerRequest:
    """A job that waits: whose it is and when it is due, its scene's key, and the worker that it will get.

    `is_retry`: its first worker was lost. It comes before all others, and is never refused for lack of room.
    """

    key: str
    claim: Claim = field(default_factory=current_claim)
    is_retry: bool = False
    worker: "asyncio.Future[SceneWorker]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def client(self) -> str:
        return self.claim.flow.client

    def may_use(self, worker: SceneWorker) -> bool:
        """Return whether a worker may take this job, given the scenes that it compiled and their clients.

        A scene may read or write all there is in the process where it was compiled: another client's scenes, states
        and images.
        """
        return (
            worker.clients <= {self.client}
            or worker.compiled <= {self.key}
            or worker.compiled | {self.key} <= bundled_keys()
        )


class WorkerQueue:
    """Requests in the order in which they get a worker, that of a FairQueue; at most `max_requests`, retries aside."""

    def __init__(self, max_requests: int):
        self._max_requests = max_requests
        self._retries: deque[WorkerRequest] = deque()
        self._waiting: FairQueue[WorkerRequest] = FairQueue()

    def __len__(self) -> int:
        return len(self._retries) + len(self._waiting)

    def __iter__(self) -> Iterator[WorkerRequest]:
        return iter([*self._retries, *(request for _, request in self._waiting)])

    def put(self, request: WorkerRequest) -> None:
        """Add a request behind those of its client.

        Raises:
            Overloaded: the queue is full, and no other request has to make room.
        """
        if request.is_retry:
            self._retries.append(request)
            return
        if len(self._waiting) >= self._max_requests:
            self._make_room(request.claim)
        self._waiting.put(request.claim, request)

    def _make_room(self, claim: Claim) -> None:
        error = Overloaded(f"{len(self._waiting)} scenes are waiting for a worker", hint="try again in a second")
        displaced = displaced_by(claim, [each for each, _ in self._waiting], self._max_requests)
        if displaced is None:
            raise error
        self.refuse(next(request for each, request in self._waiting if each is displaced), error)

    def pop(self, is_served: Callable[[WorkerRequest], bool]) -> WorkerRequest | None:
        """Offer each request that may be next to `is_served`; take the first one that it serves, or return None."""
        for request in self._retries:
            if is_served(request):
                self._retries.remove(request)
                return request
        popped = self._waiting.pop(lambda _, request: is_served(request))
        return popped[1] if popped else None

    def remove(self, request: WorkerRequest) -> bool:
        """Remove a request, and return whether it was waiting."""
        if request in self._retries:
            self._retries.remove(request)
            return True
        return self._waiting.remove(request.claim, request)

    def refuse(self, request: WorkerRequest, error: VLAError) -> None:
        """Remove a request, and have it fail with this error."""
        self.remove(request)
        if not request.worker.done():
            request.worker.set_exception(error)
