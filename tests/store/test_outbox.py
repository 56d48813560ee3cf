"""Events once, rows in order, ids that are never used again."""

from __future__ import annotations

import asyncio

from edged.domain.messages import Event
from edged.store.database import Database
from edged.store.inbox import Inbox
from edged.store.outbox import Outbox

from .words import NOW, escalation, interim, reply, request


def event(key: str, source: str = "clock") -> Event:
    return Event(source, "timer", key, "the tea is ready", NOW, {"label": "tea"})


async def test_an_event_is_announced_once_at_every_door(db: Database) -> None:
    outbox = Outbox(db, lambda: NOW)
    assert await outbox.emit(event("1"), ["mqtt", "http"])
    assert not await outbox.emit(event("1"), ["mqtt", "http"])
    assert await outbox.emit(event("1", source="door"), ["mqtt"])
    rows = await outbox.pending("mqtt")
    assert [Event.from_wire(row.body) for row in rows] == [event("1"), event("1", source="door")]
    assert {row.kind for row in rows} == {"event"}
    assert len(await outbox.pending("http")) == 1
    await outbox.delivered([row.id for row in rows])
    assert not await outbox.emit(event("1"), ["mqtt"])


async def test_pending_is_oldest_first_until_delivered(db: Database) -> None:
    inbox, outbox, one = Inbox(db), Outbox(db, lambda: NOW + 1), request("a")
    await inbox.escalate(one, interim("a", "t"), escalation(one, "t"))
    await inbox.finish(one, reply("a"))
    rows = await outbox.pending("mqtt")
    assert [(row.kind, row.request_key) for row in rows] == [("interim", one.key), ("final", one.key)]
    assert await outbox.pending("mqtt", limit=1) == rows[:1]
    await outbox.delivered([rows[0].id, 4711])
    assert await outbox.pending("mqtt") == rows[1:]


async def test_a_late_acknowledgement_hits_nothing_new(db: Database) -> None:
    inbox, outbox = Inbox(db, limit_reply_bytes=0), Outbox(db)
    await outbox.emit(event("1"), ["mqtt"])
    [old] = await outbox.pending("mqtt")
    await inbox.purge(NOW)
    await outbox.emit(event("2"), ["mqtt"])
    await outbox.delivered([old.id])
    assert len(await outbox.pending("mqtt")) == 1


async def test_a_door_is_woken_for_its_own_rows(db: Database) -> None:
    inbox, outbox = Inbox(db), Outbox(db)
    mqtt = asyncio.create_task(outbox.wait_changed("mqtt"))
    http = asyncio.create_task(outbox.wait_changed("http", outbox.version("http")))
    await inbox.finish(request("a"), reply("a"))
    await asyncio.wait_for(mqtt, 5)
    assert not http.done()
    await inbox.finish(request("a", door="http"), reply("a"))
    await asyncio.wait_for(http, 5)
