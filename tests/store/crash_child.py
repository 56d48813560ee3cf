"""Works on the store until it kills itself: `crash_child.py FILE SEED PHASE N` dies by SIGKILL at the N-th commit.

Every line on stdout is something the store has acknowledged, written before anything else is done. Six tasks work at once,
so a commit carries the work of several.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from itertools import count
from pathlib import Path

from edged.domain.errors import CloudUnreachable, EngineCrashed
from edged.domain.messages import Event, Request, ToolCall, ToolResult
from edged.store.database import Database
from edged.store.effects import Effects
from edged.store.escalations import Escalations
from edged.store.inbox import Inbox
from edged.store.outbox import Outbox

from .words import NOW, escalation, interim, reply, request


def say(*words: str) -> None:
    os.write(1, json.dumps(words).encode() + b"\n")


class Work:
    """A dispatcher, a courier and their callers, with dice in place of models."""

    def __init__(self, db: Database, dice: random.Random, life: str) -> None:
        self.inbox, self.escalations, self.outbox = Inbox(db), Escalations(db), Outbox(db)
        self.effects = Effects(db)
        self.dice, self.life = dice, life

    async def call(self) -> None:
        for number in count():
            one = request(f"{self.life}-{number}")
            await self.inbox.accept(one)
            say("accepted", one.key)

    async def dispatch(self) -> None:
        while True:
            one = await self.inbox.lease(NOW, 60)
            if one is None:
                await self.inbox.wait_changed(self.inbox.version())
                continue
            roll = self.dice.random()
            if roll < 0.4:
                await self.answer(one)
            elif roll < 0.8:
                await self.escalate(one)
            else:
                await self.inbox.release(one.key, EngineCrashed("dice"), 0)

    async def answer(self, one: Request) -> None:
        call = ToolCall("1", "place_order", {"for": one.id})
        if await self.effects.begin(one.key, 0, call) == "fresh":
            say("effect", one.key)
            await self.effects.end(one.key, 0, ToolResult("1", "place_order", True, 1))
        text = f"{self.life}-{self.dice.random()}"
        if await self.inbox.finish(one, reply(one.id, text)):
            say("finished", one.key, text)

    async def escalate(self, one: Request) -> None:
        ticket = f"{self.dice.getrandbits(64):016x}"
        if await self.inbox.escalate(one, interim(one.id, ticket), escalation(one, ticket)):
            say("escalated", one.key, ticket)

    async def courier(self) -> None:
        while True:
            seen = self.escalations.version()
            leased = await self.escalations.lease(NOW, 60)
            if leased is None:
                await self.escalations.wait_changed(seen)
            elif self.dice.random() < 0.3:
                await self.escalations.release(leased.ticket, CloudUnreachable("dice"), NOW)
            else:
                text = f"{self.life}-{self.dice.random()}"
                if await self.escalations.finish(leased.ticket, reply(leased.request.id, text)):
                    say("finished", leased.request.key, text)

    async def deliver(self) -> None:
        while True:
            seen = self.outbox.version("mqtt")
            rows = await self.outbox.pending("mqtt", 3)
            await self.outbox.delivered([row.id for row in rows])
            for row in rows:
                say("delivered", str(row.id))
            if await self.outbox.emit(Event("dice", "roll", str(self.dice.randrange(20)), "", NOW), ["mqtt"]):
                say("emitted")
            if not rows:
                await self.outbox.wait_changed("mqtt", seen)


async def main(path: Path, seed: int, phase: str, nth: int) -> None:
    seen = {"before": 0, "after": 0}

    def on_commit(now: str) -> None:
        seen[now] += 1
        if now == phase and seen[now] == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    async with Database.open(path, ballast_bytes=0, on_commit=on_commit) as db:
        work = Work(db, random.Random(seed), f"life{seed}")
        await work.inbox.recover()
        await work.escalations.recover()
        async with asyncio.TaskGroup() as group:
            for part in (work.call, work.dispatch, work.dispatch, work.courier, work.courier, work.deliver):
                group.create_task(part())


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
