"""Errors as HTTP shows them: `application/problem+json` (RFC 9457), the same shape for every error there is."""

from __future__ import annotations

import json
import math
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from edged.domain import errors
from edged.domain.errors import BadRequest, EdgedError, Unavailable

__all__ = ["INTERNAL", "internal", "problem", "problem_of", "status_of"]

# The first base that matches wins, so a kind stands before the kind it derives from.
_STATUSES: Final[tuple[tuple[type[EdgedError], int, str], ...]] = (
    (errors.NotFound, 404, "Not found"),
    (errors.Forbidden, 403, "Forbidden"),
    (errors.TooLarge, 413, "Too large"),
    (errors.Cancelled, 409, "Cancelled"),
    (BadRequest, 400, "Bad request"),
    (errors.RateLimited, 429, "Too many requests"),
    (errors.DeadlineExceeded, 504, "Deadline exceeded"),
    (Unavailable, 503, "Unavailable"),
)

INTERNAL: Final[dict[str, Any]] = {
    "type": "about:blank",
    "title": "Internal error",
    "status": 500,
    "code": "internal",
    "detail": "the daemon failed to handle this; its log says why",
}


def status_of(error: EdgedError) -> tuple[int, str]:
    """Status and title; an error that blames neither the caller nor time is 500."""
    for kind, status, title in _STATUSES:
        if isinstance(error, kind):
            return status, title
    return 500, "Failed"


def problem_of(error: EdgedError, **more: Any) -> dict[str, Any]:
    """The body: the wire form of the error, what RFC 9457 asks for, and `more`."""
    status, title = status_of(error)
    return {"type": "about:blank", "title": title, "status": status, **error.to_wire(), **more}


def problem(error: EdgedError, *, status: int | None = None, close: bool = False, **more: Any) -> web.Response:
    """The response. `status` (and `code`, in `more`) override the error's own, for what only HTTP knows (405, 408)."""
    body = problem_of(error, **more)
    if status is not None:
        body |= {"status": status, "title": HTTPStatus(status).phrase}
    response = web.Response(
        status=body["status"], body=json.dumps(body).encode(), content_type="application/problem+json"
    )
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if close:
        response.force_close()
    return response


def internal() -> web.Response:
    """A bug: said so, and no more; the log has the rest."""
    return web.Response(status=500, body=json.dumps(INTERNAL).encode(), content_type="application/problem+json")
