"""Counters in memory. Rooms count here; the daemon hands snapshots to whoever reports them."""

from __future__ import annotations

from collections import Counter

__all__ = ["Meters"]


class Meters:
    """Monotonic counters by dotted name. Not thread-safe: one event loop owns it."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def count(self, name: str, by: int = 1) -> None:
        self._counts[name] += by

    def snapshot(self) -> dict[str, int]:
        return dict(self._counts)
