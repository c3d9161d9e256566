"""How often a cache had what was looked up in it."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class CacheLookups:
    """The lookups of one cache since it was made; a lookup that threads make at once may be missed."""

    hits: int = 0
    misses: int = 0

    def note(self, is_hit: bool) -> None:
        """Count a lookup."""
        if is_hit:
            self.hits += 1
        else:
            self.misses += 1
