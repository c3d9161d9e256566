"""How many of something may be at once."""

from collections.abc import Iterator
from contextlib import contextmanager

from vla_server_base.errors import Overloaded


class Slots:
    """How many of something may be at once: `what`, such as "episodes are running", bounded by a `setting`."""

    def __init__(self, num_slots: int, what: str, setting: str):
        self._num_free = self.num_slots = num_slots
        self._what, self._setting = what, setting

    @property
    def num_taken(self) -> int:
        """How many are not free."""
        return self.num_slots - self._num_free

    @property
    def are_taken(self) -> bool:
        """Whether none is free."""
        return not self._num_free

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold a slot for the length of a `with` block.

        Raises:
            Overloaded: none is free.
        """
        if not self._num_free:
            raise Overloaded(
                f"{self.num_slots} {self._what}, which is the limit",
                hint=f"send again later; {self._setting} raises the limit",
            )
        self._num_free -= 1
        try:
            yield
        finally:
            self._num_free += 1
