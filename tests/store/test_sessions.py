"""Memory of a conversation: in order, the last few, the caller's own."""

from __future__ import annotations

from edged.domain.messages import Message, ToolCall
from edged.store.database import Database
from edged.store.sessions import Sessions

from .words import NOW

TALK = [
    Message("user", "is tea in stock?"),
    Message("assistant", tool_calls=(ToolCall("1", "check_stock", {"product": "tea"}),)),
    Message("tool", "3", tool_call_id="1"),
    Message("assistant", "yes, three"),
]


async def test_the_last_messages_in_order(db: Database) -> None:
    sessions = Sessions(db)
    await sessions.append("s", "till-1", TALK[:2])
    await sessions.append("s", "till-1", TALK[2:])
    assert await sessions.load("s", "till-1", 10) == TALK
    assert await sessions.load("s", "till-1", 2) == TALK[2:]


async def test_nobody_reads_anothers_session(db: Database) -> None:
    sessions = Sessions(db)
    await sessions.append("s", "till-1", TALK)
    assert await sessions.load("s", "till-2", 10) == []
    assert await sessions.load("other", "till-1", 10) == []


async def test_purge(db: Database) -> None:
    times = iter((NOW, NOW + 10))
    sessions = Sessions(db, lambda: next(times))
    await sessions.append("s", "till-1", TALK[:1])
    await sessions.append("s", "till-1", TALK[3:])
    await sessions.purge(NOW + 10)
    assert await sessions.load("s", "till-1", 10) == TALK[3:]
