"""How a request over HTTP is answered: while it waits, as a stream, or by a ticket.

A request with an id (or with mode "ticket") is durable: it is accepted first, its connection only waits for the reply, and
losing the connection loses nothing. Any other is work for this connection, and is cancelled with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
from collections.abc import Callable
from typing import Final

from aiohttp import web

from edged.domain.errors import BadRequest, Unavailable
from edged.domain.messages import Caller, Reply, ReplyStatus, Request
from edged.gateway.closing import Closing
from edged.gateway.protocol import answer
from edged.gateway.schema import HttpAsk, checked_id, parse
from edged.gateway.service import Dispatching
from edged.gateway.streams import open_stream, stream_work
from edged.store.outbox import Outbox

__all__ = ["Asking"]

_LONGEST_WAIT: Final = 60.0
# After its deadline a request still needs a moment to be told so.
_LATE: Final = 1.0


class Asking:
    """The three modes, and the look at what became of a request. `patience` is seconds; `clock` gives Unix seconds."""

    def __init__(
        self, dispatcher: Dispatching, outbox: Outbox, closing: Closing, patience: float, clock: Callable[[], float]
    ) -> None:
        self._dispatcher = dispatcher
        self._outbox = outbox
        self._closing = closing
        self._patience = patience
        self._clock = clock

    async def ask(self, http: web.BaseRequest, caller: Caller, agent: str, body: bytes) -> web.StreamResponse:
        """Raises `BadRequest` and `Unavailable` kinds, as long as nothing was answered."""
        ask = parse(HttpAsk, body)
        chosen = _chosen_id(ask.id, http.headers.get("Idempotency-Key"))
        durable = chosen is not None or ask.mode == "ticket"
        request = ask.request(chosen or secrets.token_hex(12), agent, caller, self._clock(), durable=durable)
        accepted = (await self._dispatcher.accept(request)).reply if durable else None
        if ask.mode == "ticket":
            return _replied(request.id, accepted)
        if ask.mode == "stream":
            stream = await open_stream(http)
            await stream_work(stream, lambda on_text: self._reply(request, on_text))
            return stream
        try:
            return _replied(request.id, await self._reply(request, None))
        except _StillPending:
            return _replied(request.id, None)

    async def _reply(self, request: Request, on_text: Callable[[str], None] | None) -> Reply:
        """The final reply, or the interim one as soon as there is one. Raises `_StillPending` for durable requests."""
        if not request.durable:
            async with self._closing.work():
                return await self._dispatcher.submit(request, on_text)
        left = self._patience if request.deadline is None else request.deadline - self._clock() + _LATE
        async with self._closing.waiting():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    return await self._first_reply(request)
        raise _StillPending("not answered yet; ask for it with its id", id=request.id, retry_after=1.0)

    async def _first_reply(self, request: Request) -> Reply:
        # `lookup` with a wait would hold an interim reply back until the wait is over.
        while True:
            seen = self._outbox.version(request.caller.door)
            reply = await self._dispatcher.lookup(request.id, request.caller, 0.0)
            if reply is not None:
                return reply
            await self._outbox.wait_changed(request.caller.door, seen)

    async def fetch(self, http: web.BaseRequest, caller: Caller, name: str) -> web.StreamResponse:
        """What became of a request, by its id or its ticket; `?wait=` seconds for the final reply."""
        wait = _seconds(http.query.get("wait", "0"))
        found = self._dispatcher.lookup
        async with self._closing.waiting():
            return _replied(name, await found(checked_id(name), caller, min(wait, _LONGEST_WAIT)))
        return _replied(name, await found(name, caller, 0.0))


class _StillPending(Unavailable):
    """A durable request that nobody waits for any longer; it goes on."""

    code = "pending"


def _chosen_id(in_body: str | None, in_header: str | None) -> str | None:
    """The id the caller chose; the header may be quoted, as its draft standard has it."""
    header = None if in_header is None else in_header.strip().strip('"')
    if in_body is not None and header is not None and in_body != header:
        raise BadRequest("id and Idempotency-Key differ; send one of them", key="id")
    chosen = in_body if in_body is not None else header
    return None if chosen is None else checked_id(chosen)


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0.0:
        raise BadRequest("wait: a number of seconds from 0", key="wait")
    return seconds


def _replied(name: str, reply: Reply | None) -> web.Response:
    """200 with a final reply (a failed one has `error`); 202 and where to look for it, if it is still to come."""
    if reply is None:
        return answer(202, {"request_id": name, "status": "pending"}, {"Location": f"/v1/requests/{name}"})
    if reply.status is ReplyStatus.ESCALATED:
        return answer(202, reply.to_wire(), {"Location": f"/v1/requests/{reply.ticket or name}"})
    return answer(200, reply.to_wire())
