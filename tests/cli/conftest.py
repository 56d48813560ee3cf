"""The real command in a child process, and a small server on a real Unix socket that speaks the API's shapes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

REPLY = {
    "request_id": "r1",
    "agent": "desk",
    "status": "done",
    "text": "It is noon.",
    "tier": "model",
    "model": "bundled",
    "finish_reason": "stop",
    "tool_calls": [],
    "tool_results": [],
    "stages": [{"name": "prefill", "seconds": 0.0123}, {"name": "decode", "seconds": 0.5}],
    "usage": {"prompt": 96, "cached": 40, "completion": 7},
}
ESCALATED = {**REPLY, "status": "escalated", "text": "That is for the cloud.", "tier": "cloud", "ticket": "t0123"}


@dataclass
class Api:
    """What the server got, and what it does next. `gone` is set when a caller leaves before its answer is complete."""

    socket: Path
    bodies: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    handle: Handler | None = None
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def answers(self, *bodies: Any, status: int = 200, kind: str = "application/json") -> None:
        """Each call gets the next body, the last one over and over."""
        left = list(bodies)

        async def handle(_: web.Request) -> web.StreamResponse:
            body = left.pop(0) if len(left) > 1 else left[0]
            return web.json_response(body, status=status, content_type=kind)

        self.handle = handle

    def refuses(self, status: int, code: str, detail: str, **more: Any) -> None:
        body = {"type": "about:blank", "title": "No", "status": status, "code": code, "detail": detail, **more}
        self.answers(body, status=status, kind="application/problem+json")

    def streams(self, *chunks: str, hang: bool = False) -> None:
        """Send the chunks as they are; then end, or stay silent until the caller leaves."""

        async def handle(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            for chunk in chunks:
                await response.write(chunk.encode())
            if hang:
                await asyncio.Event().wait()
            return response

        self.handle = handle

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(f"{request.method} {request.path_qs}")
        if request.method in ("POST", "DELETE"):
            self.bodies.append(await request.json())
        self.reached.set()
        assert self.handle is not None
        try:
            return await self.handle(request)
        except asyncio.CancelledError:
            self.gone.set()
            raise


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    # A Unix socket's path has 107 bytes at most; pytest's own folders can be longer.
    with tempfile.TemporaryDirectory(prefix="edged-cli-") as folder:
        state = Api(Path(folder) / "s")
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", state.serve)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        await web.UnixSite(runner, str(state.socket)).start()
        yield state
        await runner.cleanup()


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    status: int
    out: str
    err: str


class Command:
    """`python -m edged` with a clean environment."""

    def __init__(self, folder: Path) -> None:
        root = str(Path(__file__).parents[2])
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("EDGED", "RUNTIME_", "CONFIG"))}
        self.environment = {**kept, "PYTHONPATH": root, "FORCE_COLOR": "1", "COLUMNS": "80", "PYTHONWARNINGS": "error"}
        self.folder = folder

    async def start(self, *arguments: str | Path, **streams: Any) -> asyncio.subprocess.Process:
        pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
        command = [sys.executable, "-m", "edged", *map(str, arguments)]
        return await asyncio.create_subprocess_exec(
            *command, env=self.environment, cwd=self.folder, **{**pipes, **streams}
        )

    async def __call__(self, *arguments: str | Path, stdin: str = "", interrupt: asyncio.Event | None = None) -> Ran:
        """Run it to its end; Ctrl-C it once `interrupt` is set."""
        child = await self.start(*arguments)
        if interrupt is not None:
            await interrupt.wait()
            child.send_signal(signal.SIGINT)
        out, err = await child.communicate(stdin.encode())
        return Ran(child.returncode or 0, out.decode(), err.decode())


@pytest.fixture
def edged(tmp_path: Path) -> Command:
    return Command(tmp_path)
