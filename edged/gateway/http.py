"""The HTTP door: aiohttp on a Unix socket. Callers are users of this machine, as the kernel names them.

It uses aiohttp's bare server, not its application: nine routes need no router, every error has one shape, and there is no
access log. A connection that sends nothing is closed after `idle_timeout`, one that sends half a body after `body_timeout`.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import unquote

from aiohttp import web

from edged.domain.errors import BadRequest, EdgedError, NotFound, TooLarge, Unavailable
from edged.domain.messages import Caller, Event
from edged.gateway.access import Access, peer_uid
from edged.gateway.answering import Answering
from edged.gateway.desk import Desk
from edged.gateway.listening import listening
from edged.gateway.problems import internal, problem
from edged.gateway.schema import BODY_LIMIT, HttpSettings, checked_name
from edged.gateway.sse import Feed, pump

__all__ = ["HttpDoor"]

log = logging.getLogger("edged.http")

_View = Callable[[], Any]
_Handler = Callable[[web.BaseRequest, Caller, list[str]], Awaitable[web.StreamResponse]]

_EVENT_LISTENERS: Final = 32


class HttpDoor:
    """Listens while it is entered. `views` has "status", "models" and "health": callables (sync or async) of JSON-able maps.

    A "health" without a true "ok" answers 503. `clock` is Unix seconds. Entering raises `ConfigError` (see `listening`).
    """

    def __init__(
        self,
        settings: HttpSettings,
        desk: Desk,
        views: Mapping[str, _View],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._desk = desk
        self._views = views
        self._access = Access("http", rate=settings.rate, burst=settings.burst, roles=settings.roles)
        self._answering = Answering(desk, settings, clock)
        self._feeds: set[Feed] = set()
        self._stack = AsyncExitStack()
        # Method, path with "*" for a name, and who answers.
        self._routes: tuple[tuple[str, tuple[str, ...], _Handler], ...] = (
            ("POST", ("v1", "agents", "*", "requests"), self._ask),
            ("GET", ("v1", "requests", "*"), self._find),
            ("GET", ("v1", "agents"), self._agents),
            ("GET", ("v1", "status"), self._view("status")),
            ("GET", ("v1", "models"), self._view("models")),
            ("GET", ("v1", "events"), self._events),
            ("GET", ("healthz",), self._health),
        )

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            sock = stack.enter_context(listening(self._settings.socket))
            server = _Server(self._handle, idle_timeout=self._settings.idle_timeout, limit=self._settings.connections)
            runner = web.ServerRunner(server, shutdown_timeout=self._settings.grace)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.SockSite(runner, sock).start()
            stack.callback(self._close_feeds)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening, give running requests `grace` seconds, cancel the rest."""
        await self._stack.aclose()

    def announce(self, event: Event) -> None:
        """Tell whoever listens on /v1/events now. Live only: what nobody hears is not kept here."""
        for feed in self._feeds:
            feed.put("event", event.to_wire())

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            handler, names = self._route(request)
            sock = request.get_extra_info("socket")
            if sock is None:
                raise ConnectionResetError("the client is gone")
            caller = self._access.caller(f"uid:{peer_uid(sock)}")
            self._access.spend(caller)
            return await handler(request, caller, names)
        except _MethodNotAllowed as error:
            response = problem(error, status=405)
            response.headers["Allow"] = ", ".join(error.fields["allowed"])
            return response
        except TooLarge as error:
            return problem(error, close=True)
        except EdgedError as error:
            return problem(error)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:
            log.exception("a request to %s failed on a bug", request.path)
            return internal()

    def _route(self, request: web.BaseRequest) -> tuple[_Handler, list[str]]:
        parts = [unquote(part) for part in request.rel_url.raw_path.strip("/").split("/")]
        allowed = []
        for method, pattern, handler in self._routes:
            if len(parts) == len(pattern) and all(p in ("*", part) for p, part in zip(pattern, parts, strict=True)):
                if request.method == method:
                    return handler, [part for p, part in zip(pattern, parts, strict=True) if p == "*"]
                allowed.append(method)
        if allowed:
            raise _MethodNotAllowed(f"{request.method} is not possible here", allowed=allowed)
        raise NotFound("there is nothing at this path; docs/http.md lists what there is")

    async def _ask(self, request: web.BaseRequest, caller: Caller, names: list[str]) -> web.StreamResponse:
        agent = checked_name(names[0], "agent")
        body = await self._body(request)
        return await self._answering.ask(request, caller, agent, body)

    async def _find(self, request: web.BaseRequest, caller: Caller, names: list[str]) -> web.StreamResponse:
        return await self._answering.find(request, caller, names[0])

    async def _agents(self, request: web.BaseRequest, caller: Caller, names: list[str]) -> web.StreamResponse:
        return _json({"agents": self._desk.agents()})

    def _view(self, name: str) -> _Handler:
        async def handler(request: web.BaseRequest, caller: Caller, names: list[str]) -> web.StreamResponse:
            return _json(await self._look(name))

        return handler

    async def _health(self, request: web.BaseRequest, caller: Caller, names: list[str]) -> web.StreamResponse:
        health = await self._look("health") if "health" in self._views else {"ok": True}
        return _json(health, status=200 if health.get("ok") else 503)

    async def _look(self, name: str) -> Any:
        if name not in self._views:
            raise NotFound(f"this daemon shows no {name}")
        seen = self._views[name]()
        return await seen if inspect.isawaitable(seen) else seen

    async def _events(self, request: web.BaseRequest, caller: Caller, names: list[str]) -> web.StreamResponse:
        if len(self._feeds) >= _EVENT_LISTENERS:
            raise Unavailable(f"{_EVENT_LISTENERS} clients listen already", retry_after=self._settings.idle_timeout)
        feed = Feed()
        self._feeds.add(feed)
        try:
            limits = {"heartbeat": self._settings.heartbeat, "write_timeout": self._settings.write_timeout}
            return await pump(request, feed, **limits)
        finally:
            self._feeds.discard(feed)

    def _close_feeds(self) -> None:
        for feed in self._feeds:
            feed.close()

    async def _body(self, request: web.BaseRequest) -> bytes:
        """At most `BODY_LIMIT` bytes, within `body_timeout`."""
        if (request.content_length or 0) > BODY_LIMIT:
            raise TooLarge(f"a body may have {BODY_LIMIT} bytes", limit=BODY_LIMIT)
        body = bytearray()
        try:
            async with asyncio.timeout(self._settings.body_timeout):
                async for piece in request.content.iter_any():
                    body += piece
                    if len(body) > BODY_LIMIT:
                        raise TooLarge(f"a body may have {BODY_LIMIT} bytes", limit=BODY_LIMIT)
        except TimeoutError:
            raise BadRequest(f"the body did not arrive within {self._settings.body_timeout:g} s") from None
        except web.RequestPayloadError as error:
            raise BadRequest(f"the body cannot be read: {error}") from None
        return bytes(body)


class _MethodNotAllowed(BadRequest):
    """There is something at this path, for other methods."""


class _Server(web.Server):
    """Connections that answer garbage in the shape of every other error, and no more of them than the limit."""

    def __init__(
        self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], *, idle_timeout: float, limit: int
    ) -> None:
        super().__init__(handler, handler_cancellation=True)
        self._idle_timeout = idle_timeout
        self._limit = limit

    def __call__(self) -> web.RequestHandler:
        loop = asyncio.get_running_loop()
        connection = _Connection(
            self,
            loop=loop,
            keepalive_timeout=self._idle_timeout,
            tcp_keepalive=False,
            access_log=None,  # type: ignore[arg-type]  # what web.run_app documents for "off"
            lingering_time=1.0,
            auto_decompress=False,
        )
        if len(self.connections) >= self._limit:
            loop.call_soon(connection.force_close)
        return connection


class _Connection(web.RequestHandler):
    """What cannot be parsed never becomes a request; aiohttp asks here for the answer to it."""

    __slots__ = ()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if status >= 500:
            log.error("a connection failed on a bug", exc_info=exc)
            return internal()
        return problem(BadRequest("this is not HTTP as it should be; the connection ends here"), close=True)


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=json.dumps(value).encode(), content_type="application/json")
