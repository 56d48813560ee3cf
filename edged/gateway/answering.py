"""How a request over HTTP is answered: while it waits, as a stream, or by a ticket.

A request with an id (or with mode "ticket") is durable: it is accepted first, its connection only waits for the reply, and
losing the connection loses nothing. Any other is work for this connection, and is cancelled with it.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aiohttp import web

from edged.domain.errors import BadRequest, EdgedError, error_from_wire
from edged.domain.messages import Caller, Reply, ReplyStatus, Request
from edged.gateway.desk import Desk
from edged.gateway.problems import problem, problem_of
from edged.gateway.schema import HttpAsk, HttpSettings, checked_id, parse
from edged.gateway.sse import Feed, pump

__all__ = ["Answering"]


class Answering:
    """The three modes, and the look at what became of a request. `clock` is Unix seconds."""

    def __init__(self, desk: Desk, settings: HttpSettings, clock: Callable[[], float]) -> None:
        self._desk = desk
        self._settings = settings
        self._clock = clock

    async def ask(self, http: web.BaseRequest, caller: Caller, agent: str, body: bytes) -> web.StreamResponse:
        ask = parse(HttpAsk, body)
        chosen = _chosen_id(ask.id, http.headers.get("Idempotency-Key"))
        durable = chosen is not None or ask.mode == "ticket"
        request_id = chosen or secrets.token_hex(12)
        request = ask.request(request_id, agent, caller, self._clock(), durable=durable)
        if ask.mode == "ticket":
            return await self._ticket(request)
        if ask.mode == "stream":
            return await self._stream(http, request)
        return _replied(request, await self._answer(request, None))

    async def find(self, http: web.BaseRequest, caller: Caller, name: str) -> web.StreamResponse:
        """What became of a request (by its id or ticket); `wait` seconds for its final reply."""
        try:
            wait = float(http.query.get("wait", "0"))
        except ValueError:
            wait = -1.0
        if not 0.0 <= wait:
            raise BadRequest("wait: a number of seconds from 0", key="wait")
        reply = await self._desk.lookup(checked_id(name), caller, min(wait, self._settings.wait_limit))
        if reply is None:
            return _pending(name)
        return _json(reply.to_wire(), 202 if reply.status is ReplyStatus.ESCALATED else 200)

    async def _ticket(self, request: Request) -> web.StreamResponse:
        accepted = await self._desk.accept(request)
        if accepted.reply is not None:
            return _replied(request, accepted.reply)
        return _pending(request.id)

    async def _answer(self, request: Request, on_text: Callable[[str], None] | None) -> Reply:
        """The reply, final or escalated. A durable request is accepted first, and looked up until it is there."""
        if not request.durable:
            return await self._desk.submit(request, on_text=on_text)
        accepted = await self._desk.accept(request)
        reply = accepted.reply
        while reply is None:
            reply = await self._desk.lookup(request.id, request.caller, self._settings.wait_limit)
        return reply

    async def _stream(self, http: web.BaseRequest, request: Request) -> web.StreamResponse:
        """Tokens as they are made, then the reply. What fails before the first token fails with its own status."""
        feed = Feed()
        async with asyncio.TaskGroup() as tasks:
            work = tasks.create_task(self._work(request, feed), name=f"stream:{request.id}")
            try:
                await feed.wait(self._settings.heartbeat)
                if work.done() and isinstance(outcome := work.result(), EdgedError):
                    return problem(outcome)
                limits = {"heartbeat": self._settings.heartbeat, "write_timeout": self._settings.write_timeout}
                return await pump(http, feed, **limits)
            finally:
                work.cancel()
                # Its end is awaited by the group; a bug in it is raised there.
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([work])

    async def _work(self, request: Request, feed: Feed) -> EdgedError | None:
        """Fill the feed. An expected error is an event of the stream, and the result."""
        try:
            reply = await self._answer(request, feed.token)
            failure = _failure(reply)
            if failure is None:
                feed.put("reply", reply.to_wire())
            else:
                feed.put("error", problem_of(failure, reply=reply.to_wire()))
        except EdgedError as error:
            failure = error
            feed.put("error", problem_of(error))
        finally:
            feed.close()
        return failure


def _chosen_id(in_body: str | None, in_header: str | None) -> str | None:
    """The id the caller chose; the header may be quoted, as its draft standard has it."""
    header = None if in_header is None else in_header.strip().strip('"')
    if in_body is not None and header is not None and in_body != header:
        raise BadRequest("id and Idempotency-Key differ; send one of them", key="id")
    chosen = in_body if in_body is not None else header
    return None if chosen is None else checked_id(chosen)


def _failure(reply: Reply) -> EdgedError | None:
    if reply.status is not ReplyStatus.FAILED:
        return None
    return error_from_wire(reply.error or {"code": "error", "detail": reply.text or "the request failed"})


def _replied(request: Request, reply: Reply) -> web.Response:
    """200 with a final reply, 202 with an interim one, and a failed one as the problem it is."""
    failure = _failure(reply)
    if failure is not None:
        return problem(failure, reply=reply.to_wire())
    if reply.status is ReplyStatus.ESCALATED:
        return _json(reply.to_wire(), 202, location=reply.ticket or request.id)
    return _json(reply.to_wire(), 200)


def _pending(request_id: str) -> web.Response:
    return _json({"request_id": request_id, "status": "pending"}, 202, location=request_id)


def _json(value: Any, status: int, location: str | None = None) -> web.Response:
    headers = {} if location is None else {"Location": f"/v1/requests/{location}"}
    body = json.dumps(value).encode()
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)
