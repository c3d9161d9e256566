"""Which clients' scenes have cost workers of late, and are refused without costing another one."""

import time
from collections import OrderedDict
from dataclasses import dataclass

from vla_server_base.errors import SceneError

REMEMBERED_S = 30.0
MOST_WORKERS = 2
"""That one scene of one client may cost in that time."""

MAX_VERDICTS = 1000


@dataclass(kw_only=True)
class _Verdict:
    error: SceneError
    num_workers: int
    until: float


class Verdicts:
    """What scenes were found guilty of, for a while; by client too, so that nobody gets another's scene refused."""

    def __init__(self) -> None:
        self._verdicts: OrderedDict[tuple[str, str], _Verdict] = OrderedDict()

    def check(self, client: str, key: str) -> None:
        """Refuse a scene that has cost too many workers.

        Raises:
            SceneError: what was said of it the last time.
        """
        verdict = self._verdicts.get((client, key))
        if verdict is None or verdict.num_workers < MOST_WORKERS:
            return
        left_s = verdict.until - time.monotonic()
        if left_s <= 0:
            del self._verdicts[client, key]
            return
        said, hint = verdict.error.message, verdict.error.hint
        raise type(verdict.error)(
            said, hint=f"{hint}; it has cost {verdict.num_workers} workers and is not tried again for {left_s:.0f} s"
        )

    def note(self, client: str, key: str, error: SceneError, num_workers: int) -> None:
        """Remember that a scene has cost workers."""
        now = time.monotonic()
        before = self._verdicts.pop((client, key), None)
        if before is not None and before.until > now:
            num_workers += before.num_workers
        self._verdicts[client, key] = _Verdict(error=error, num_workers=num_workers, until=now + REMEMBERED_S)
        while len(self._verdicts) > MAX_VERDICTS:
            self._verdicts.popitem(last=False)
