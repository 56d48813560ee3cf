"""aiohttp's low-level server, with its own errors in the shape of ours.

There is no `web.Application`: eight routes need no router, and what the HTTP parser refuses never reaches a middleware.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from edged.gateway.problems import INTERNAL, encode, problem

__all__ = ["PROBLEM_TYPE", "DoorServer", "answer"]

log = logging.getLogger("edged.gateway")

PROBLEM_TYPE: Final = "application/problem+json"
_SERVER: Final = {"Server": "edged"}


def answer(status: int, body: object, headers: dict[str, str] | None = None) -> web.Response:
    """JSON; problems are told by their status."""
    kind = PROBLEM_TYPE if status >= 400 and isinstance(body, dict) and "code" in body else "application/json"
    return web.Response(status=status, body=encode(body), headers=_SERVER | (headers or {}), content_type=kind)


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
            body = INTERNAL
        else:
            phrase = HTTPStatus(status).phrase
            log.debug("refused: %s", exc)
            body = problem(status, "bad_request", f"the request is not valid HTTP/1.1 ({phrase})")
        response = answer(status, body)
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
