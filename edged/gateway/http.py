"""The HTTP door: JSON over a Unix socket, for programs on this device.

Every answer that is not a success is a problem+json with a stable code. A request that a caller named, or wants a ticket
for, is committed before anything is answered; any other lives and dies with its connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote, unquote

from aiohttp import web

from edged.domain.errors import EdgedError, NotFound, TooLarge
from edged.domain.messages import Caller, Reply, ReplyStatus, Request
from edged.gateway.access import Buckets, Rate, peer_caller
from edged.gateway.closing import Closing
from edged.gateway.listening import listening
from edged.gateway.problems import INTERNAL, Refused, headers_of, problem_of, status_of
from edged.gateway.protocol import DoorServer, answer
from edged.gateway.schema import parse_body, parse_wait
from edged.gateway.service import Dispatching, Views
from edged.gateway.streams import Announcer, open_stream, stream_work
from edged.store.outbox import Outbox

__all__ = ["HttpDoor"]

log = logging.getLogger("edged.gateway")

_Handler = Callable[[web.BaseRequest, Caller, str], Awaitable[web.StreamResponse]]
_DEFAULT_RATE: Final = Rate()


class HttpDoor:
    """Listens while it is open (`async with`).

    `body_limit` in bytes; `patience`: seconds of a durable wait without a deadline of its own; `body_seconds`: until a body
    must have arrived; `idle`: until a silent connection is closed; `drain`: that open requests get at the end.
    `clock` gives Unix seconds. Entering raises `ConfigError` if the socket's place is taken.
    """

    def __init__(
        self,
        dispatcher: Dispatching,
        outbox: Outbox,
        views: Views,
        *,
        socket_path: Path,
        mode: int = 0o660,
        body_limit: int = 65536,
        rate: Rate = _DEFAULT_RATE,
        patience: float = 30.0,
        body_seconds: float = 10.0,
        idle: float = 75.0,
        drain: float = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._dispatcher = dispatcher
        self._views = views
        self._socket_path = socket_path
        self._mode = mode
        self._body_limit = body_limit
        self._patience = patience
        self._body_seconds = body_seconds
        self._idle = idle
        self._drain = drain
        self._clock = clock
        self._buckets = Buckets(rate)
        self._announcer = Announcer(outbox)
        self._closing = Closing(drain)
        self._stack = AsyncExitStack()
        self._routes: tuple[tuple[str, re.Pattern[str], _Handler], ...] = (
            ("POST", re.compile("/v1/agents/([^/]+)/requests"), self._ask),
            ("GET", re.compile("/v1/requests/([^/]+)"), self._fetch),
            ("GET", re.compile("/v1/status"), self._status),
            ("GET", re.compile("/v1/agents"), self._agents),
            ("GET", re.compile("/v1/models"), self._models),
            ("GET", re.compile("/v1/events"), self._events),
            ("GET", re.compile("/healthz"), self._health),
        )

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            sock = stack.enter_context(listening(self._socket_path, self._mode))
            await stack.enter_async_context(self._serving(sock))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @contextlib.asynccontextmanager
    async def _serving(self, sock: socket.socket) -> AsyncIterator[None]:
        # `Closing` ends requests in time; aiohttp's own limit is for connections that do not take their answer.
        runner = web.ServerRunner(DoorServer(self._handle, idle=self._idle), shutdown_timeout=self._drain + 1.0)
        await runner.setup()
        try:
            await web.SockSite(runner, sock).start()
            yield
        finally:
            self._closing.begin()
            await runner.cleanup()

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        """Every request comes through here, and every error becomes an answer here."""
        try:
            return await self._route(http)
        except Refused as refused:
            return answer(refused.status, refused.body, refused.headers)
        except EdgedError as error:
            return answer(status_of(error), problem_of(error), headers_of(error))
        except ConnectionError:
            raise
        except Exception:
            log.exception("%s %s failed", http.method, http.path)
            return answer(500, INTERNAL)

    async def _route(self, http: web.BaseRequest) -> web.StreamResponse:
        path = http.rel_url.raw_path
        allowed = []
        for method, pattern, handler in self._routes:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            if method == http.method:
                return await handler(http, self._caller(http), unquote(match[1]) if pattern.groups else "")
            allowed.append(method)
        if allowed:
            raise Refused(405, "method_not_allowed", f"use {', '.join(allowed)} here", {"Allow": ", ".join(allowed)})
        raise NotFound("there is nothing at this path")

    def _caller(self, http: web.BaseRequest) -> Caller:
        sock = http.get_extra_info("socket")
        if sock is None:
            raise ConnectionResetError("the caller has gone")
        return peer_caller(sock)
