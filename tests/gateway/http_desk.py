"""A scripted dispatcher over the real store: agents by name, each with what it does to a request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from edged.domain.errors import NotFound, Unavailable
from edged.domain.messages import Caller, Reply, ReplyStatus, Request, Tier
from edged.store.inbox import Accepted, Inbox
from edged.store.outbox import Outbox

AGENTS = ("echo", "slow", "broken", "busy", "cloudy", "failing")


class HttpDesk:
    """`echo` answers word by word, `slow` waits for `go`, `broken` has a bug, `busy` refuses, `cloudy` escalates.

    A durable request is answered only by `answer`, as if another task had leased it.
    """

    def __init__(self, inbox: Inbox, outbox: Outbox) -> None:
        self.inbox = inbox
        self.outbox = outbox
        self.go = asyncio.Event()
        self.began = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.requests: list[Request] = []

    def agents(self) -> list[dict[str, Any]]:
        return [{"name": name} for name in AGENTS]

    def agent(self, name: str) -> object:
        if name not in AGENTS:
            raise NotFound(f"there is no agent {name!r}")
        return name

    async def submit(self, request: Request, on_text: Callable[[str], None] | None = None) -> Reply:
        self.requests.append(request)
        self.began.set()
        if request.agent == "slow":
            await self._wait()
        if request.agent == "broken":
            raise KeyError("a secret of the code")
        if request.agent == "busy":
            raise Unavailable("no room", retry_after=2.5)
        if request.agent == "cloudy":
            return Reply(request.id, "cloudy", ReplyStatus.ESCALATED, finish_reason="escalated", ticket="t1")
        if request.agent == "failing":
            return Reply(request.id, "failing", ReplyStatus.FAILED, error={"code": "tool_failed", "detail": "no"})
        if on_text is not None:
            for word in request.text.split():
                on_text(word)
                await asyncio.sleep(0)
        return Reply(request.id, request.agent, ReplyStatus.DONE, request.text, Tier.MODEL)

    async def accept(self, request: Request) -> Accepted:
        self.requests.append(request)
        accepted = await self.inbox.accept(request)
        self.began.set()
        return accepted

    async def lookup(self, id_or_ticket: str, caller: Caller, wait: float) -> Reply | None:
        key = await self.inbox.by_ticket(id_or_ticket) or f"http:{caller.id}:{id_or_ticket}"
        status = await self._status(key)
        if wait > 0 and status[1] is None:
            self.began.set()
            seen = self.outbox.version("http")
            try:
                async with asyncio.timeout(wait):
                    while (status := await self._status(key))[1] is None:
                        seen = await self.outbox.wait_changed("http", seen)
            except TimeoutError:
                pass
        return status[1] or status[2]

    async def _status(self, key: str) -> tuple[str, Reply | None, Reply | None]:
        status = await self.inbox.status(key)
        if status is None:
            raise NotFound("there is no such request")
        return status

    async def answer(self, text: str) -> None:
        """The last request's reply, through the store."""
        request = self.requests[-1]
        await self.inbox.finish(request, Reply(request.id, request.agent, ReplyStatus.DONE, text))

    async def _wait(self) -> None:
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
