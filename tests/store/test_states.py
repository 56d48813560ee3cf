"""The tables of moves, and that SQL holds rows to them: every verb is tried on a row in every state."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import aiosqlite
import pytest

from edged.domain.errors import Unavailable
from edged.store.database import Database
from edged.store.escalations import Escalations
from edged.store.inbox import Inbox
from edged.store.outbox import Outbox
from edged.store.states import ESCALATION, ESCALATION_OPEN, INBOX, INBOX_OPEN

from .words import NOW, escalation, interim, reply, request

INBOX_STATES = ("queued", "leased", "escalated", "done")
ESCALATION_STATES = ("waiting", "leased", "done", "dead")
ONE = request("a")

# verb -> {state before: state after}; what is left out stays as it is
INBOX_TABLE = {
    "lease": {"queued": "leased", "leased": "leased"},
    "release": {"leased": "queued"},
    "recover": {"leased": "queued"},
    "escalate": {"queued": "escalated", "leased": "escalated"},
    "finish": {"queued": "done", "leased": "done", "escalated": "done"},
}
ESCALATION_TABLE = {
    "lease": {"waiting": "leased", "leased": "leased"},
    "release": {"leased": "waiting"},
    "recover": {"leased": "waiting"},
    "hurry": {"waiting": "waiting"},
    "finish": {"waiting": "done", "leased": "done"},
    "bury": {"waiting": "dead", "leased": "dead"},
}


def test_the_code_has_these_tables() -> None:
    for table, moves in ((INBOX_TABLE, INBOX), (ESCALATION_TABLE, ESCALATION)):
        assert table == {verb: dict.fromkeys(move.sources, move.target) for verb, move in moves.items()}


async def put(db: Database, state: str) -> None:
    """A request in this state."""

    async def force(conn: aiosqlite.Connection) -> None:
        done = NOW if state == "done" else None
        await conn.execute("UPDATE inbox SET state = ?, done_at = ?", (state, done))

    await Inbox(db).accept(ONE)
    await db.write(force)


@pytest.mark.parametrize("state", INBOX_STATES)
@pytest.mark.parametrize("verb", INBOX)
async def test_inbox(db: Database, verb: str, state: str) -> None:
    inbox = Inbox(db, clock=lambda: NOW)
    await put(db, state)
    verbs: dict[str, Callable[[], Awaitable[Any]]] = {
        "lease": lambda: inbox.lease(NOW, 10),
        "release": lambda: inbox.release(ONE.key, Unavailable("no"), 0),
        "recover": inbox.recover,
        "escalate": lambda: inbox.escalate(ONE, interim("a", "t"), escalation(ONE, "t")),
        "finish": lambda: inbox.finish(ONE, reply("a")),
    }
    result = await verbs[verb]()
    if state == "done":
        assert not result
        assert await Outbox(db).pending("mqtt") == []
    status = await inbox.status(ONE.key)
    assert status is not None
    assert status[0] == INBOX_TABLE[verb].get(state, state)


@pytest.mark.parametrize("state", ESCALATION_STATES)
@pytest.mark.parametrize("verb", ESCALATION)
async def test_escalations(db: Database, verb: str, state: str) -> None:
    async def force(conn: aiosqlite.Connection) -> None:
        await conn.execute("UPDATE escalations SET state = ?", (state,))
        if state in ("done", "dead"):
            await conn.execute("UPDATE inbox SET state = 'done', done_at = ?", (NOW,))

    escalations = Escalations(db, lambda: NOW)
    await Inbox(db).escalate(ONE, interim("a", "t"), escalation(ONE, "t"))
    await db.write(force)
    verbs: dict[str, Callable[[], Awaitable[Any]]] = {
        "lease": lambda: escalations.lease(NOW, 10),
        "release": lambda: escalations.release("t", Unavailable("no"), 0),
        "recover": escalations.recover,
        "hurry": escalations.hurry,
        "finish": lambda: escalations.finish("t", reply("a")),
        "bury": lambda: escalations.dead("t", "expired", reply("a")),
    }
    await verbs[verb]()
    found = await escalations.get("t")
    assert found is not None
    assert found.state == ESCALATION_TABLE[verb].get(state, state)


@pytest.mark.parametrize(
    ("sql", "index"),
    [
        (f"SELECT seq FROM inbox WHERE {INBOX_OPEN} ORDER BY rank, deadline, accepted_at, seq LIMIT 1", "inbox_open"),
        (f"SELECT min(free_at) FROM inbox WHERE {INBOX_OPEN}", "inbox_due"),
        (f"SELECT seq FROM escalations WHERE {ESCALATION_OPEN} AND free_at <= 1 ORDER BY seq", "escalations_open"),
        ("SELECT * FROM outbox WHERE door = 'mqtt' AND delivered IS NULL ORDER BY id LIMIT 9", "outbox_pending"),
    ],
)
async def test_partial_indices_are_used_and_nothing_is_sorted(db: Database, sql: str, index: str) -> None:
    plan = " ".join(row["detail"] for row in await db.read(f"EXPLAIN QUERY PLAN {sql}"))
    assert index in plan
    assert "TEMP B-TREE" not in plan
