"""The durable queue to the cloud: one row a ticket, oldest first, each with its own back-off.

A row's `free_at` is when it may be leased: not before, while it waits; the end of the lease, while leased. It is never later
than `expires_at`, so an escalation always comes up once more when it expires, and the courier buries it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from sqlite3 import Row
from typing import Literal, cast

import aiosqlite

from edged.domain.errors import EdgedError, NotFound
from edged.domain.messages import Reply, Request
from edged.store.database import Database
from edged.store.outbox import door_topic, put_reply
from edged.store.states import ESCALATION, ESCALATION_OPEN, INBOX, Move

__all__ = ["TOPIC", "Escalation", "EscalationState", "Escalations", "settle"]

EscalationState = Literal["waiting", "leased", "done", "dead"]

TOPIC = "escalations"
_SELECT = "SELECT e.*, i.request FROM escalations e JOIN inbox i ON i.key = e.request_key WHERE e.ticket = ?"
_FINISH, _BURY = ESCALATION["finish"], ESCALATION["bury"]


@dataclass(frozen=True, slots=True)
class Escalation:
    """A request on its way to the cloud. Who escalates makes the `ticket` (`secrets.token_hex(8)`) and sets the expiry."""

    ticket: str
    request: Request
    created: float
    expires_at: float
    state: EscalationState = "waiting"
    attempts: int = 0
    not_before: float = 0.0
    last_error: str | None = None


async def settle(
    conn: aiosqlite.Connection, request: Request, reply: Reply, now: float, move: Move = _FINISH, why: str | None = None
) -> bool:
    """The one way a request ends: its row, its escalation if there is one, and its reply, in the caller's transaction.

    False, and nothing is written, if it had ended before. A request without a row gets its reply all the same, once.
    """
    finish = INBOX["finish"]
    ended = await conn.execute_fetchall(
        f"UPDATE inbox SET {finish.set}, done_at = ? WHERE key = ? AND {finish.guard} RETURNING 1", (now, request.key)
    )
    if not ended and await conn.execute_fetchall("SELECT 1 FROM inbox WHERE key = ?", (request.key,)):
        return False
    await conn.execute_fetchall(
        f"UPDATE escalations SET {move.set}, last_error = coalesce(?, last_error) WHERE request_key = ? AND {move.guard}",
        (why, request.key),
    )
    return await put_reply(conn, request, reply, "final", now)


class Escalations:
    """The courier's side. Rows come in through `Inbox.escalate`. `clock` gives Unix seconds."""

    def __init__(self, db: Database, clock: Callable[[], float] = time.time) -> None:
        self._db = db
        self._clock = clock

    async def lease(self, now: float, seconds: float) -> Escalation | None:
        """The oldest that is due, for `seconds`; counts an attempt. An expired one is due: bury it."""

        async def take(conn: aiosqlite.Connection) -> Escalation | None:
            move = ESCALATION["lease"]
            rows = list(
                await conn.execute_fetchall(
                    f"UPDATE escalations SET {move.set}, free_at = ?, attempts = attempts + 1 WHERE seq = "
                    f"(SELECT seq FROM escalations WHERE {move.guard} AND free_at <= ? ORDER BY seq LIMIT 1)"
                    " RETURNING ticket",
                    (now + seconds, now),
                )
            )
            return await _load(conn, rows[0]["ticket"]) if rows else None

        return await self._db.write(take)

    async def release(self, ticket: str, error: EdgedError, not_before: float) -> None:
        """Back to the queue until `not_before` or its expiry. Does nothing to one that is not leased."""
        move, why = ESCALATION["release"], f"{error.code}: {error.detail}"

        async def put_back(conn: aiosqlite.Connection) -> None:
            await conn.execute_fetchall(
                f"UPDATE escalations SET {move.set}, free_at = min(?, expires_at), last_error = ?"
                f" WHERE ticket = ? AND {move.guard}",
                (not_before, why, ticket),
            )

        await self._db.write(put_back, wake=(TOPIC,))

    async def hurry(self) -> None:
        """Connectivity may have returned: what backs off is due now."""
        move = ESCALATION["hurry"]

        async def advance(conn: aiosqlite.Connection) -> None:
            await conn.execute_fetchall(f"UPDATE escalations SET {move.set}, free_at = 0 WHERE {move.guard}")

        await self._db.write(advance, wake=(TOPIC,))

    async def finish(self, ticket: str, reply: Reply) -> bool:
        """Escalation and request done, final reply written. False if that had happened before, or the ticket is unknown."""
        return await self._end(ticket, reply, _FINISH, None)

    async def dead(self, ticket: str, reason: str, reply: Reply) -> bool:
        """Given up: the same, with a failed reply and the `reason` kept."""
        return await self._end(ticket, reply, _BURY, reason)

    async def _end(self, ticket: str, reply: Reply, move: Move, why: str | None) -> bool:
        found = await self.get(ticket)
        if found is None:
            return False
        request, now = found.request, self._clock()

        async def end(conn: aiosqlite.Connection) -> bool:
            return await settle(conn, request, reply, now, move, why)

        return await self._db.write(end, wake=(door_topic(request.caller.door),))

    async def get(self, ticket: str) -> Escalation | None:
        rows = await self._db.read(_SELECT, (ticket,))
        return _escalation(rows[0]) if rows else None

    async def position(self, ticket: str) -> int:
        """How many open ones are before it. Raises `NotFound` if it is not open itself."""
        rows = await self._db.read(
            f"SELECT (SELECT count(*) FROM escalations WHERE {ESCALATION_OPEN} AND seq < mine.seq) AS ahead"
            f" FROM escalations mine WHERE ticket = ? AND {ESCALATION_OPEN}",
            (ticket,),
        )
        if not rows:
            raise NotFound("no such ticket is waiting", ticket=ticket)
        return int(rows[0]["ahead"])

    async def counts(self) -> dict[str, int]:
        """Rows by state; states without rows are left out."""
        return {row[0]: row[1] for row in await self._db.read("SELECT state, count(*) FROM escalations GROUP BY state")}

    async def next_due(self, now: float) -> float | None:
        """When the next one is due (`now` if one is already), or None if none is open."""
        [row] = await self._db.read(f"SELECT min(free_at) FROM escalations WHERE {ESCALATION_OPEN}")
        return None if row[0] is None else max(now, row[0])

    async def recover(self) -> int:
        """At boot: nobody holds a lease any more. Returns how many went back to the queue."""
        move = ESCALATION["recover"]

        async def free(conn: aiosqlite.Connection) -> int:
            sql = f"UPDATE escalations SET {move.set}, free_at = 0 WHERE {move.guard} RETURNING 1"
            return len(list(await conn.execute_fetchall(sql)))

        return await self._db.write(free, wake=(TOPIC,))

    def version(self) -> int:
        """For `wait_changed`: take it before looking."""
        return self._db.changes.version(TOPIC)

    async def wait_changed(self, seen: int | None = None) -> int:
        """Until something came, was released or was hurried. Only the sole waiter may leave `seen` out."""
        return await self._db.changes.wait(TOPIC, seen)


async def _load(conn: aiosqlite.Connection, ticket: str) -> Escalation:
    [row] = await conn.execute_fetchall(_SELECT, (ticket,))
    return _escalation(row)


def _escalation(row: Row) -> Escalation:
    return Escalation(
        ticket=row["ticket"],
        request=Request.from_wire(json.loads(row["request"])),
        created=row["created"],
        expires_at=row["expires_at"],
        state=cast(EscalationState, row["state"]),
        attempts=row["attempts"],
        not_before=row["free_at"],
        last_error=row["last_error"],
    )
