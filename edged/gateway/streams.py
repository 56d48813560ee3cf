"""Server-sent events: the tokens of one request, and the device's events for whoever listens.

An event is delivered once it was written to at least one listener, so it may be written twice and its `id` tells. Whichever
listener wakes first writes what is new to all of them: there is no task that would have to run while nobody listens.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from edged.domain.errors import EdgedError
from edged.domain.messages import Reply
from edged.gateway.problems import INTERNAL, problem_of
from edged.store.outbox import Outbox

__all__ = ["Announcer", "Ask", "open_stream", "stream_work"]

log = logging.getLogger("edged.gateway")

# Given where pieces of text go, comes back with the reply.
Ask = Callable[[Callable[[str], None]], Awaitable[Reply]]

_DOOR: Final = "http"
# A listener that does not read for so many seconds is cut off; it would hold back the others.
_STALL: Final = 5.0


async def open_stream(http: web.BaseRequest) -> web.StreamResponse:
    """Start a `text/event-stream` answer; errors from here on are events in it."""
    stream = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await stream.prepare(http)
    return stream


async def _send(stream: web.StreamResponse, event: str, data: Any, row_id: int | None = None) -> None:
    head = f"event: {event}\n" if row_id is None else f"id: {row_id}\nevent: {event}\n"
    await stream.write(f"{head}data: {json.dumps(data)}\n\n".encode())


async def stream_work(stream: web.StreamResponse, ask: Ask) -> None:
    """`token` events while `ask` runs, then one `reply` or `error`. Cancelling cancels the work."""
    outbound: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()

    async def work() -> None:
        try:
            reply = await ask(lambda text: outbound.put_nowait(("token", {"text": text})))
            outbound.put_nowait(("reply", reply.to_wire()))
        except EdgedError as error:
            outbound.put_nowait(("error", problem_of(error)))
        except Exception:
            log.exception("a streamed request failed")
            outbound.put_nowait(("error", INTERNAL))

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(work(), name="http:stream")
            event = "token"
            while event == "token":
                event, data = await outbound.get()
                await _send(stream, event, data)
    except* ConnectionError:
        log.debug("the reader of a stream has gone")


class Announcer:
    """Writes the outbox's events for this door to every open listener."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._listeners: set[web.StreamResponse] = set()
        self._writing = asyncio.Lock()

    async def listen(self, stream: web.StreamResponse) -> None:
        """Until the listener is cut off, or cancelled. Begins with what nobody has got yet, oldest first."""
        self._listeners.add(stream)
        try:
            while stream in self._listeners:
                seen = self._outbox.version(_DOOR)
                async with self._writing:
                    more = await self._announce()
                if not more and stream in self._listeners:
                    await self._outbox.wait_changed(_DOOR, seen)
        finally:
            self._listeners.discard(stream)

    async def _announce(self) -> bool:
        """One batch. True if there may be more."""
        rows = await self._outbox.pending(_DOOR, kind="event")
        written = []
        for row in rows:
            told = [await self._tell(stream, row.id, row.body) for stream in tuple(self._listeners)]
            if any(told):
                written.append(row.id)
        if written:
            await self._outbox.delivered(written)
        return bool(written)

    async def _tell(self, stream: web.StreamResponse, row_id: int, body: dict[str, Any]) -> bool:
        try:
            async with asyncio.timeout(_STALL):
                await _send(stream, "event", body, row_id)
        except (ConnectionError, TimeoutError):
            self._listeners.discard(stream)
            return False
        return True
