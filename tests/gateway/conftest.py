"""A door on a real socket, in front of a scripted dispatcher and a real store; curl and raw sockets in front of it."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edged.gateway.http import HttpDoor
from edged.store.database import Database
from edged.store.inbox import Inbox
from edged.store.outbox import Outbox

from .http_desk import HttpDesk


@dataclass(slots=True)
class Answer:
    """A response as curl got it; header names in lower case."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def read_answer(raw: bytes) -> Answer:
    """The last response in what a server sent (100 Continue comes before it)."""
    head, _, body = raw.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 100"):
        return read_answer(body)
    first, *lines = head.decode().split("\r\n")
    headers = {key.lower(): value for key, value in (line.split(": ", 1) for line in lines)}
    return Answer(int(first.split()[1]), headers, body.decode())


@dataclass(slots=True)
class Room:
    """The door and what is behind it."""

    path: Path
    desk: HttpDesk
    outbox: Outbox
    door: HttpDoor
    health: dict[str, Any]

    async def curl(self, url: str, *options: str, stdin: bytes | None = None) -> Answer:
        curl = shutil.which("curl")
        assert curl is not None
        command = [
            curl,
            "-sS",
            "-i",
            "--max-time",
            "15",
            "--unix-socket",
            str(self.path),
            *options,
            f"http://edged{url}",
        ]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
        out, err = await process.communicate(stdin)
        assert out, err
        return read_answer(out)

    async def ask(self, agent: str = "echo", headers: tuple[str, ...] = (), **body: Any) -> Answer:
        options = [part for header in headers for part in ("-H", header)]
        return await self.curl(f"/v1/agents/{agent}/requests", *options, "-d", json.dumps(body))

    async def raw(self, data: bytes) -> bytes:
        """What comes back until the server closes."""
        reader, writer = await asyncio.open_unix_connection(self.path)
        writer.write(data)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer


Rooms = Callable[..., AbstractAsyncContextManager[Room]]


@pytest.fixture
def open_room(tmp_path: Path) -> Rooms:
    """Opens a door with any settings."""

    @asynccontextmanager
    async def opened(**settings: Any) -> AsyncIterator[Room]:
        async with Database.open(tmp_path / "edged.db", ballast_bytes=0) as db:
            outbox = Outbox(db)
            desk = HttpDesk(Inbox(db), outbox)
            health: dict[str, Any] = {"state": "healthy", "reasons": []}
            views = {"status": _status, "models": lambda: [{"name": "m"}], "health": lambda: health}
            path = tmp_path / "edged.sock"
            async with HttpDoor(desk, outbox, views, socket_path=path, **settings) as door:
                yield Room(path, desk, outbox, door, health)

    return opened


async def _status() -> dict[str, Any]:
    return {"device": "till"}


@pytest.fixture
async def room(open_room: Rooms) -> AsyncIterator[Room]:
    async with open_room(drain=2.0, body_seconds=1.0) as opened:
        yield opened
