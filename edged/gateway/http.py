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
from urllib.parse import unquote

from aiohttp import web

from edged.domain.errors import BadRequest, EdgedError, NotFound
from edged.domain.messages import Caller
from edged.gateway.access import Access, peer_uid, uid_roles
from edged.gateway.asking import Asking
from edged.gateway.closing import Closing
from edged.gateway.listening import listening
from edged.gateway.problems import internal, problem
from edged.gateway.protocol import DoorServer, answer, read_body
from edged.gateway.schema import BODY_LIMIT, Example, parse
from edged.gateway.service import Dispatching, Lessons, Views
from edged.gateway.streams import Announcer, open_stream
from edged.store.outbox import Outbox

__all__ = ["HttpDoor"]

log = logging.getLogger("edged.gateway")

_Handler = Callable[[web.BaseRequest, Caller, str], Awaitable[web.StreamResponse]]
_HEALTH: Final = "/healthz"


class HttpDoor:
    """Listens while it is open (`async with`).

    `rate` is requests a second for each caller, `burst` how many at once after a pause. `body_limit` in bytes; seconds:
    `patience`, how long a durable request waits that has no deadline; `body_seconds`, until a body must have arrived;
    `idle`, until a silent connection is closed; `drain`, what open requests get at the end. `clock` gives Unix seconds.
    Entering raises `ConfigError` if the socket's place is taken or cannot be used.
    """

    def __init__(
        self,
        dispatcher: Dispatching,
        outbox: Outbox,
        views: Views,
        *,
        socket_path: Path,
        lessons: Lessons | None = None,
        mode: int = 0o660,
        body_limit: int = BODY_LIMIT,
        rate: float = 20.0,
        burst: int = 60,
        patience: float = 60.0,
        body_seconds: float = 10.0,
        idle: float = 75.0,
        drain: float = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._dispatcher = dispatcher
        self._views = views
        self._lessons = lessons
        self._socket_path = socket_path
        self._mode = mode
        self._body_limit = body_limit
        self._body_seconds = body_seconds
        self._idle = idle
        self._drain = drain
        self._access = Access("http", rate=rate, burst=burst, roles=uid_roles())
        self._announcer = Announcer(outbox)
        self._closing = Closing(drain)
        self._asking = Asking(dispatcher, outbox, self._closing, patience, clock)
        self._stack = AsyncExitStack()
        self._routes: tuple[tuple[str, re.Pattern[str], _Handler], ...] = (
            ("POST", re.compile("/v1/agents/([^/]+)/requests"), self._ask),
            ("GET", re.compile("/v1/requests/([^/]+)"), self._fetch),
            ("GET", re.compile("/v1/agents/([^/]+)/examples"), self._examples),
            ("POST", re.compile("/v1/agents/([^/]+)/examples"), self._examples),
            ("DELETE", re.compile("/v1/agents/([^/]+)/examples"), self._examples),
            ("GET", re.compile("/v1/status"), self._status),
            ("GET", re.compile("/v1/agents"), self._agents),
            ("GET", re.compile("/v1/models"), self._models),
            ("GET", re.compile("/v1/events"), self._events),
            ("GET", re.compile(_HEALTH), self._health),
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
        except EdgedError as error:
            # What is left of a refused body is not read, so its connection ends.
            return problem(error, close=not http.content.is_eof())
        except ConnectionError:
            raise
        except Exception:
            log.exception("%s %s failed", http.method, http.rel_url.raw_path)
            return internal()

    async def _route(self, http: web.BaseRequest) -> web.StreamResponse:
        path, allowed = http.rel_url.raw_path, []
        caller = self._access.caller(f"uid:{_uid(http)}")
        if path != _HEALTH:
            self._access.spend(caller)
        for method, pattern, handler in self._routes:
            match = pattern.fullmatch(path)
            if match is not None and method == http.method:
                return await handler(http, caller, unquote(match[1]) if pattern.groups else "")
            if match is not None:
                allowed.append(method)
        if not allowed:
            raise NotFound("there is nothing at this path")
        refusal = problem(BadRequest(f"use {' or '.join(allowed)} here"), status=405, code="method_not_allowed")
        refusal.headers["Allow"] = ", ".join(allowed)
        return refusal

    async def _ask(self, http: web.BaseRequest, caller: Caller, agent: str) -> web.StreamResponse:
        self._dispatcher.agent(agent)
        body = await self._body(http)
        return body if isinstance(body, web.Response) else await self._asking.ask(http, caller, agent, body)

    async def _examples(self, http: web.BaseRequest, caller: Caller, agent: str) -> web.StreamResponse:
        if self._lessons is None:
            raise NotFound("nothing can be taught here")
        if http.method == "GET":
            return answer(200, self._lessons.taught(caller, agent))
        body = await self._body(http)
        if isinstance(body, web.Response):
            return body
        example = parse(Example, body)
        change = self._lessons.teach if http.method == "POST" else self._lessons.forget
        return answer(200, await change(caller, agent, example.tool, example.text))

    async def _body(self, http: web.BaseRequest) -> bytes | web.Response:
        """The body, or the answer to a caller that is too slow."""
        try:
            async with asyncio.timeout(self._body_seconds):
                return await read_body(http, self._body_limit)
        except TimeoutError:
            return problem(BadRequest("the body did not come in time"), status=408, code="timeout", close=True)

    async def _fetch(self, http: web.BaseRequest, caller: Caller, name: str) -> web.StreamResponse:
        return await self._asking.fetch(http, caller, name)

    async def _status(self, http: web.BaseRequest, caller: Caller, _: str) -> web.StreamResponse:
        return answer(200, await self._view("status"))

    async def _agents(self, http: web.BaseRequest, caller: Caller, _: str) -> web.StreamResponse:
        return answer(200, {"agents": self._dispatcher.agents()})

    async def _models(self, http: web.BaseRequest, caller: Caller, _: str) -> web.StreamResponse:
        return answer(200, {"models": await self._view("models")})

    async def _health(self, http: web.BaseRequest, caller: Caller, _: str) -> web.StreamResponse:
        health = await self._view("health")
        return answer(503 if health["state"] == "unhealthy" else 200, health)

    async def _events(self, http: web.BaseRequest, caller: Caller, _: str) -> web.StreamResponse:
        stream = await open_stream(http)
        async with self._closing.waiting():
            await self._announcer.listen(stream)
        return stream

    async def _view(self, name: str) -> Any:
        value = self._views[name]()
        return await value if inspect.isawaitable(value) else value


def _uid(http: web.BaseRequest) -> int:
    sock = http.get_extra_info("socket")
    if sock is None:
        raise ConnectionResetError("the caller has gone")
    return peer_uid(sock)
