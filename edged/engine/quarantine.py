"""Which models crash too often to be started again now. Pure bookkeeping; time is handed in."""

from __future__ import annotations

from collections import Counter

__all__ = ["Quarantine"]


class Quarantine:
    """After `after` crashes in a row a model rests for `base` seconds, then twice as long at every further crash, up to `cap`.

    When its rest is over it gets one attempt; one good answer clears its name.
    """

    def __init__(self, *, after: int = 3, base: float = 30.0, cap: float = 3600.0) -> None:
        self._after = after
        self._base = base
        self._cap = cap
        self._crashes: Counter[str] = Counter()
        self.until: dict[str, float] = {}

    def crashed(self, name: str, now: float) -> float | None:
        """Count a crash; returns until when the model rests, or None while it may be tried again at once."""
        self._crashes[name] += 1
        excess = self._crashes[name] - self._after
        if excess < 0:
            return None
        self.until[name] = now + min(self._cap, self._base * 2**excess)
        return self.until[name]

    def answered(self, name: str) -> None:
        self._crashes.pop(name, None)
        self.until.pop(name, None)

    def holds(self, name: str, now: float) -> bool:
        return self.until.get(name, now) > now
