"""aiohttp's low-level server, with its own errors in the shape of ours.

There is no `web.Application`: ten routes need no router, and what the HTTP parser refuses never reaches a middleware.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler, RequestPayloadError

from edged.domain.errors import BadRequest, TooLarge
from edged.gateway.problems import internal, problem

__all__ = ["DoorServer", "answer", "read_body"]

log = logging.getLogger("edged.gateway")


def answer(status: int, body: Any, headers: dict[str, str] | None = None) -> web.Response:
    """JSON, in ASCII: half a surrogate pair, which UTF-8 cannot carry, stays an escape."""
    return web.Response(status=status, body=json.dumps(body).encode(), content_type="application/json", headers=headers)


async def read_body(http: web.BaseRequest, limit: int) -> bytes:
    """At most `limit` bytes, whether announced or in chunks. Raises `TooLarge`, or `BadRequest` for broken chunks."""
    error = TooLarge(f"a request may have {limit} bytes", limit=limit)
    if (http.content_length or 0) > limit:
        raise error
    if http.headers.get("Expect", "").lower() == "100-continue":
        await http.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # Or the answer proper would count as begun.
        http.writer.output_size = 0
    body = bytearray()
    try:
        while chunk := await http.content.readany():
            body += chunk
            if len(body) > limit:
                raise error
    except RequestPayloadError as broken:
        raise BadRequest("the body is not valid HTTP/1.1") from broken
    return bytes(body)


class _Connection(RequestHandler):
    """One connection. A parser's error is the client's fault: answered, and not worth a stack trace in the log."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("part of an answer was sent; no other can follow")
        if status >= 500:
            log.error("a request failed outside of its handler", exc_info=exc)
            response = internal()
        else:
            log.debug("refused: %s", exc)
            response = problem(BadRequest("this is not valid HTTP/1.1, or its headers are too long"), status=status)
        response.force_close()
        return response


class DoorServer(web.Server):
    """Serves `handler`; closes connections that idle, or that never finish their headers, after `idle` seconds."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], *, idle: float) -> None:
        super().__init__(
            handler,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=idle,
            tcp_keepalive=False,
            lingering_time=2.0,
            auto_decompress=False,
        )

    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)
