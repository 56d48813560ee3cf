"""Wake-ups between rooms that share the database: a version a topic, no polling and no lost wake-up.

A version is raised only after the commit that changed something, so whoever wakes finds the rows.
"""

from __future__ import annotations

import asyncio
from collections import Counter

__all__ = ["Changes"]


class Changes:
    """Versions by topic; owned by one event loop."""

    def __init__(self) -> None:
        self._versions: Counter[str] = Counter()
        self._seen: Counter[str] = Counter()
        self._events: dict[str, asyncio.Event] = {}

    def version(self, topic: str) -> int:
        """Take it before looking at the rows, then pass it to `wait`."""
        return self._versions[topic]

    def bump(self, topic: str) -> None:
        self._versions[topic] += 1
        event = self._events.pop(topic, None)
        if event is not None:
            event.set()

    async def wait(self, topic: str, seen: int | None = None) -> int:
        """The topic's version, as soon as it differs from `seen`.

        A topic's only consumer may leave `seen` out: what it was last told is then remembered here.
        """
        known = self._seen[topic] if seen is None else seen
        while self._versions[topic] == known:
            await self._events.setdefault(topic, asyncio.Event()).wait()
        if seen is None:
            self._seen[topic] = self._versions[topic]
        return self._versions[topic]
