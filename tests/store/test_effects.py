"""A call with an effect runs at most once, whatever happened in between."""

from __future__ import annotations

from dataclasses import replace

from edged.domain.messages import ToolCall, ToolResult
from edged.store.database import Database
from edged.store.effects import Effects
from edged.store.inbox import Inbox

from .words import NOW, reply, request

ORDER = ToolCall("c1", "place_order", {"product": "tea", "quantity": 2})
PLACED = ToolResult("c1", "place_order", True, {"order": "K-17"}, seconds=0.25)


async def test_fresh_then_what_came_of_it(db: Database) -> None:
    effects = Effects(db)
    assert await effects.begin("k", 0, ORDER) == "fresh"
    await effects.end("k", 0, PLACED)
    await effects.end("k", 0, replace(PLACED, ok=False))
    again = ToolCall("c9", "place_order", {"quantity": 2, "product": "tea"})
    assert await effects.begin("k", 0, again) == replace(PLACED, call_id="c9")
    assert await effects.begin("k", 1, ORDER) == "fresh"
    assert await effects.begin("other", 0, ORDER) == "fresh"


async def test_begun_and_never_ended_is_interrupted(db: Database) -> None:
    effects = Effects(db)
    await effects.begin("k", 0, ORDER)
    assert await effects.begin("k", 0, ORDER) == "interrupted"


async def test_another_call_in_its_place_does_not_run(db: Database) -> None:
    effects = Effects(db)
    await effects.begin("k", 0, ORDER)
    await effects.end("k", 0, PLACED)
    assert await effects.begin("k", 0, replace(ORDER, arguments={"product": "tea", "quantity": 3})) == "interrupted"


async def test_purge_keeps_what_may_be_tried_again(db: Database) -> None:
    effects, inbox, one = Effects(db, lambda: NOW), Inbox(db), request("a")
    await inbox.accept(one)
    await effects.begin(one.key, 0, ORDER)
    await effects.begin("gone", 0, ORDER)
    await effects.purge(NOW + 1)
    assert await effects.begin(one.key, 0, ORDER) == "interrupted"
    assert await effects.begin("gone", 0, ORDER) == "fresh"
    await inbox.finish(one, reply("a"))
    await effects.purge(NOW + 1)
    assert await db.read("SELECT * FROM effects") == []
