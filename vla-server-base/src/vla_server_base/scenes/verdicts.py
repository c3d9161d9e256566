"""Which clients' scenes cost workers lately, and are refused before they cost another one."""

import time
from dataclasses import dataclass

from cachetools import TTLCache

from vla_server_base.errors import SceneError

EXPIRY_S = 30.0
MAX_WORKERS = 2
"""That one scene of one client may cost in that time."""

MAX_VERDICTS = 1000


@dataclass(frozen=True, kw_only=True)
class _Verdict:
    error: SceneError
    num_workers: int
    until: float


class Verdicts:
    """The scenes that cost workers, for a while; by client too, so that nobody gets another's scene refused."""

    def __init__(self):
        self._verdicts: TTLCache[tuple[str, str], _Verdict, float] = TTLCache(MAX_VERDICTS, EXPIRY_S, time.monotonic)

    def check(self, client: str, key: str) -> None:
        """Refuse a scene that cost too many workers.

        Raises:
            SceneError: the error of its last attempt.
        """
        verdict = self._verdicts.get((client, key))
        if verdict is None or verdict.num_workers < MAX_WORKERS:
            return
        error, left_s = verdict.error, verdict.until - time.monotonic()
        hint = f"{error.hint}; it has cost {verdict.num_workers} workers and is not tried again for {left_s:.0f} s"
        raise type(error)(error.message, hint=hint)

    def note(self, client: str, key: str, error: SceneError, num_workers: int) -> None:
        """Add the workers that a scene has cost to those that it cost before."""
        before = self._verdicts.get((client, key))
        if before is not None:
            num_workers += before.num_workers
        verdict = _Verdict(error=error, num_workers=num_workers, until=time.monotonic() + EXPIRY_S)
        self._verdicts[client, key] = verdict
