"""Server-sent events to one client: pieces are joined while it reads slowly, and silence is filled with heartbeats.

A client that takes nothing for `write_timeout` is cut off: its connection, not the daemon, pays for that.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import Any, Final

from aiohttp import web

__all__ = ["Feed", "pump"]

_PING: Final = b": ping\n\n"


class Feed:
    """What waits to be sent; filled from callbacks on the loop. At most `limit` entries: beyond, the oldest are dropped.

    Consecutive tokens become one entry, so the text of one answer never counts as more than a few.
    """

    def __init__(self, limit: int = 256) -> None:
        self._entries: deque[tuple[str, dict[str, Any]]] = deque(maxlen=limit)
        self._filled = asyncio.Event()
        self._closed = False

    def token(self, text: str) -> None:
        if self._entries and self._entries[-1][0] == "token":
            text = self._entries.pop()[1]["text"] + text
        self.put("token", {"text": text})

    def put(self, name: str, data: dict[str, Any]) -> None:
        self._entries.append((name, data))
        self._filled.set()

    def close(self) -> None:
        """Nothing follows what is in it."""
        self._closed = True
        self._filled.set()

    async def wait(self, seconds: float) -> bool:
        """True as soon as there is something to send or nothing will follow; False after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._filled.wait()
        except TimeoutError:
            return False
        return True

    @property
    def done(self) -> bool:
        return self._closed and not self._entries

    def take(self) -> bytes:
        """All that waits, in the wire's form."""
        if not self._closed:
            self._filled.clear()
        lines = []
        while self._entries:
            name, data = self._entries.popleft()
            lines.append(f"event: {name}\ndata: {json.dumps(data)}\n\n")
        return "".join(lines).encode()


async def pump(request: web.BaseRequest, feed: Feed, *, heartbeat: float, write_timeout: float) -> web.StreamResponse:
    """Send the feed until it is done. Raises `ConnectionError` if the client is gone or takes nothing any more."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    # A stream's connection ends with it: nobody may sit on a half-sent one.
    response.force_close()
    await response.prepare(request)
    while not feed.done:
        data = feed.take() if await feed.wait(heartbeat) else _PING
        if data:
            await _write(request, response, data, write_timeout)
    return response


async def _write(request: web.BaseRequest, response: web.StreamResponse, data: bytes, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await response.write(data)
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the client does not read") from None
