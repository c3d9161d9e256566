"""What the device prepares while no request waits: the next steps of sessions."""

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from vla_server_base.adapter import VLAModelAdapter
from vla_server_base.contract import PolicyInput

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Prefetch:
    """What the device prepares while it is idle, for a request that is likely to come."""

    policy_input: PolicyInput | None = None
    pieces: Iterator[None] | None = None
    is_wanted: bool = True

    def cancel(self) -> None:
        """Skip the rest: the request has come, or will not come."""
        self.is_wanted = False


class Prefetches:
    """The prefetches that wait, oldest first; `changed` guards them, and is notified when one is added."""

    def __init__(self, changed: threading.Condition):
        self._changed = changed
        self.waiting: list[Prefetch] = []

    def add(self, prefetch: Prefetch) -> None:
        """Add something to prefetch, and drop what is no longer wanted: a busy device never gets to it."""
        with self._changed:
            self.waiting = [each for each in (*self.waiting, prefetch) if each.is_wanted]
            self._changed.notify_all()

    def run_piece(self, adapter: VLAModelAdapter) -> bool:
        """Run the next piece of the oldest prefetch that is still wanted; return whether there was one."""
        with self._changed:
            self.waiting = [each for each in self.waiting if each.is_wanted]
            prefetch = next(iter(self.waiting), None)
        if prefetch is None:
            return False
        try:
            assert prefetch.policy_input is not None, "a prefetch is preprocessed before it enters the queue"
            prefetch.pieces = prefetch.pieces or adapter.prefetch(prefetch.policy_input)
            next(prefetch.pieces)
        except StopIteration:
            prefetch.cancel()
        except BaseException:  # SystemExit too: it would end the device thread
            logger.exception("the policy failed to prefetch; the request is answered without")
            prefetch.cancel()
        return True
