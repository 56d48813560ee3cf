"""A dispatcher that keeps its promises and thinks little: the real inbox, and every text answered by its echo."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from edged.domain.errors import NotFound
from edged.domain.messages import Caller, Reply, ReplyStatus, Request
from edged.store.database import Database
from edged.store.inbox import Accepted, Inbox


class Desk:
    """`working` and `taking` hold back the answers and the acceptances while they are clear."""

    def __init__(self, db: Database) -> None:
        self.inbox = Inbox(db)
        self.working, self.taking = asyncio.Event(), asyncio.Event()
        self.working.set()
        self.taking.set()
        self.asked: asyncio.Queue[Request] = asyncio.Queue()
        self.on_accepted: Callable[[Request], None] = lambda _request: None

    @classmethod
    @asynccontextmanager
    async def open(cls, db: Database) -> AsyncIterator[Desk]:
        desk = cls(db)
        await desk.inbox.recover()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(desk._work())
            yield desk
            task.cancel()

    async def accept(self, request: Request) -> Accepted:
        self.asked.put_nowait(request)
        await self.taking.wait()
        accepted = await self.inbox.accept(request)
        self.on_accepted(request)
        return accepted

    async def submit(self, request: Request, on_text: Callable[[str], None] | None = None) -> Reply:
        self.asked.put_nowait(request)
        await self.working.wait()
        return echo(request)

    async def lookup(self, id_or_ticket: str, caller: Caller, wait: float) -> Reply | None:
        raise NotFound("nothing is looked up here")

    def agents(self) -> list[dict[str, Any]]:
        return [{"name": "echo"}]

    def agent(self, name: str) -> object:
        if name != "echo":
            raise NotFound(f"no agent {name!r}")
        return name

    async def _work(self) -> None:
        while True:
            await self.working.wait()
            seen = self.inbox.version()
            request = await self.inbox.lease(time.time(), 60.0)
            if request is None:
                await self.inbox.wait_changed(seen)
            else:
                await self.inbox.finish(request, echo(request))


def echo(request: Request) -> Reply:
    return Reply(request.id, request.agent, ReplyStatus.DONE, text=f"you said {request.text}")
