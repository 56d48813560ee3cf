"""How open requests end when the daemon stops: work may finish until the drain time is over, waiting ends at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from edged.domain.errors import Unavailable

__all__ = ["Closing"]


class Closing:
    """Time limits of what is open now; `begin` shortens them all. No task of its own."""

    def __init__(self, drain: float) -> None:
        self._drain = drain
        self._open: dict[asyncio.Timeout, float] = {}
        self._begun: float | None = None

    @asynccontextmanager
    async def work(self) -> AsyncIterator[None]:
        """May finish within the drain time, then raises `Unavailable`."""
        async with self._limited(self._drain) as limit:
            yield
        if limit.expired():
            raise Unavailable("the daemon is stopping; try again later", retry_after=5.0)

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Left quietly as soon as closing begins."""
        async with self._limited(0.0):
            yield

    def begin(self) -> None:
        """From now on."""
        self._begun = asyncio.get_running_loop().time()
        for limit, grace in self._open.items():
            limit.reschedule(self._begun + grace)

    @asynccontextmanager
    async def _limited(self, grace: float) -> AsyncIterator[asyncio.Timeout]:
        limit = asyncio.timeout_at(None if self._begun is None else self._begun + grace)
        try:
            async with limit:
                self._open[limit] = grace
                try:
                    yield limit
                finally:
                    del self._open[limit]
        except TimeoutError:
            if not limit.expired():
                raise
