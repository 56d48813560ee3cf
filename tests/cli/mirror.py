"""A real HTTP server on 127.0.0.1 that has one file, and faults to choose for each request in turn."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

Ranged = re.compile(r"bytes=(\d+)-")


@dataclass(frozen=True)
class Fault:
    """What is done to one answer. `cut`: close after so many bytes of the body. `hang`: stay silent after so many."""

    cut: int | None = None
    hang: int | None = None
    status: int = 200
    kind: str = "application/octet-stream"
    length: int | None = None
    chunked: bool = False
    location: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None


GOOD = Fault()


@dataclass
class Mirror:
    """`faults` are used up one a request of the file; then all is well. `asked` are the requests' headers, with their path."""

    body: bytes
    base: str = ""
    etag: str = '"one"'
    modified: str = ""
    ranges: bool = True
    heeds_if_range: bool = True
    faults: list[Fault] = field(default_factory=list)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    pages: dict[str, object] = field(default_factory=dict)
    hanging: asyncio.Event = field(default_factory=asyncio.Event)
    sent: int = 0

    @property
    def url(self) -> str:
        return f"{self.base}/files/tiny.gguf"

    def ranges_asked(self) -> list[str | None]:
        return [headers.get("Range") for path, headers in self.asked if path.endswith(".gguf")]

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.path, dict(request.headers)))
        if request.path in self.pages:
            return web.json_response(self.pages[request.path])
        if not request.path.endswith(".gguf"):
            return web.Response(status=404)
        fault = self.faults.pop(0) if self.faults else GOOD
        if fault.location:
            return web.Response(status=302, headers={"Location": fault.location})
        if fault.status >= 300:
            return web.Response(status=fault.status, headers=fault.headers)
        return await self._send(request, fault)

    async def _send(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        body = self.body if fault.body is None else fault.body
        start = self._start(request, len(body))
        if start is not None and start >= len(body):
            return web.Response(status=416)
        response = web.StreamResponse(status=200 if start is None else 206, headers=self._headers(fault))
        if start is not None and "Content-Range" not in response.headers:
            response.headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        data = body[start or 0 :]
        if fault.chunked:
            response.enable_chunked_encoding()
        else:
            response.content_length = len(data) if fault.length is None else fault.length
        await response.prepare(request)
        await self._write(request, response, data, fault)
        return response

    async def _write(self, request: web.Request, response: web.StreamResponse, data: bytes, fault: Fault) -> None:
        stop = next((at for at in (fault.cut, fault.hang) if at is not None), len(data))
        await response.write(data[:stop])
        self.sent += stop
        if fault.hang is not None:
            self.hanging.set()
            await asyncio.Event().wait()
        if fault.cut is not None or fault.length is not None:
            assert request.transport is not None
            request.transport.close()

    def _start(self, request: web.Request, size: int) -> int | None:
        """Where the range that is asked for begins, if it is to be answered as one."""
        asked = Ranged.fullmatch(request.headers.get("Range", ""))
        wanted = request.headers.get("If-Range")
        stale = self.heeds_if_range and wanted not in (None, self.etag or self.modified)
        return int(asked[1]) if asked and self.ranges and not stale else None

    def _headers(self, fault: Fault) -> dict[str, str]:
        told = {"ETag": self.etag, "Last-Modified": self.modified, "Content-Type": fault.kind, **fault.headers}
        return {key: value for key, value in told.items() if value}


@asynccontextmanager
async def serving(body: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[Mirror]:
    mirror = Mirror(body)
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", mirror.serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    mirror.base = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield mirror
    finally:
        await runner.cleanup()
