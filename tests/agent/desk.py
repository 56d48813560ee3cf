"""A dispatcher over a real store, with a router that does what a script says."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from edged.agent.dispatcher import Dispatcher
from edged.agent.router import Router
from edged.agent.runner import Outcome
from edged.agent.turn import Escalate
from edged.domain.messages import Caller, Reply, ReplyStatus, Request, Tier
from edged.domain.meters import Meters
from edged.domain.ports import ChatModel
from edged.domain.resources import Agent
from edged.store.database import Database
from edged.store.escalations import Escalations
from edged.store.inbox import Inbox
from edged.store.outbox import Outbox

CALLER = Caller("till", door="mqtt")
AGENTS = {
    "kiosk": Agent("kiosk", "m", ("stock",)),
    "home": Agent("home", "m", local_only=True),
    "staff": Agent("staff", "m", roles=("staff",)),
}
BEYOND = Escalate("no_tool_fits", "No tool fits.")
Act = str | Escalate | BaseException | asyncio.Event


class Scripted(Router):
    """Each answer takes the next act, the last one again and again: a text, a reason to escalate, an error to raise, an event
    to wait for (then "late")."""

    def __init__(self, *acts: Act, cloud: bool = True) -> None:
        self._agents = AGENTS
        self._cloud = cast(ChatModel, object()) if cloud else None
        self._acts = deque(acts)
        self.asked: list[Request] = []
        self.ends: list[float | None] = []
        self.cancelled = 0
        self.begun: asyncio.Queue[Request] = asyncio.Queue()

    async def answer(
        self, request: Request, deadline_monotonic: float | None, on_text: Callable[[str], None] | None = None
    ) -> Outcome:
        self.asked.append(request)
        self.ends.append(deadline_monotonic)
        self.begun.put_nowait(request)
        act = self._acts.popleft() if len(self._acts) > 1 else self._acts[0]
        if isinstance(act, BaseException):
            raise act
        reply = Reply(request.id, request.agent, ReplyStatus.DONE, "late", Tier.MODEL)
        if isinstance(act, Escalate):
            return Outcome(reply, act)
        if isinstance(act, asyncio.Event):
            try:
                await act.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            return Outcome(reply)
        return Outcome(Reply(request.id, request.agent, ReplyStatus.DONE, act, Tier.MODEL))


@dataclass
class Clock:
    """Goes on by `tick` seconds whenever somebody looks."""

    now: float = field(default_factory=time.time)
    tick: float = 0.0

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


@dataclass
class Site:
    dispatcher: Dispatcher
    inbox: Inbox
    outbox: Outbox
    escalations: Escalations
    meters: Meters

    async def kinds(self) -> list[tuple[str, str, str]]:
        """What waits for the door: (id, kind, status)."""
        rows = await self.outbox.pending("mqtt")
        return [(row.body["request_id"], row.kind, row.body["status"]) for row in rows]


@asynccontextmanager
async def site(
    folder: Path,
    router: Router,
    *,
    clock: Callable[[], float] = time.time,
    inbox: type[Inbox] = Inbox,
    limit_rows: int = 100,
    **more: Any,
) -> AsyncIterator[Site]:
    async with Database.open(folder / "edged.db", ballast_bytes=0) as db:
        box, outbox, meters = inbox(db, limit_rows=limit_rows, clock=clock), Outbox(db, clock), Meters()
        async with Dispatcher(router, box, outbox, meters, clock=clock, **more) as dispatcher:
            yield Site(dispatcher, box, outbox, Escalations(db, clock), meters)


def ask(
    name: str = "r", agent: str = "kiosk", text: str = "Is there tea?", at: float | None = None, **more: Any
) -> Request:
    more = {"caller": CALLER, "accepted_at": time.time() if at is None else at, **more}
    return Request(name, agent, text, **more)
