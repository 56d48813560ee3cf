"""Requests that were acknowledged, until they are answered and for a while after, so that a duplicate gets the same answer.

A row's `free_at` is when it may be leased: not before, while queued; the end of the lease, while leased. It is never later
than the request's deadline when it goes back to the queue, so that a late one comes up in time to be refused.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal, cast

import aiosqlite

from edged.domain.errors import BadRequest, EdgedError, PowerSaving, QueueFull, StoreUnavailable
from edged.domain.messages import Reply, Request
from edged.store import escalations, retention
from edged.store.database import Database
from edged.store.escalations import Escalation, settle
from edged.store.outbox import door_topic, put_reply
from edged.store.states import ESCALATION_OPEN, INBOX, INBOX_OPEN

__all__ = ["TOPIC", "Accepted", "Inbox", "InboxState"]

InboxState = Literal["queued", "leased", "escalated", "done"]

TOPIC = "inbox"
_FULL_RETRY_AFTER: Final = 5.0

_STATUS = """
    SELECT i.state, i.request, f.body AS final, m.body AS interim, f.id, f.door, f.delivered FROM inbox i
    LEFT JOIN outbox f ON f.request_key = i.key AND f.kind = 'final'
    LEFT JOIN outbox m ON m.request_key = i.key AND m.kind = 'interim'
    WHERE i.key = ?
"""
_INSERT = """
    INSERT INTO inbox (key, state, request, ticket, rank, deadline, accepted_at) VALUES (?, ?, ?, ?, ?, ?, ?)
"""


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of a request: new, pending (perhaps with an interim reply), or answered before, with that answer."""

    state: Literal["new", "pending", "answered"]
    reply: Reply | None = None


class Inbox:
    """The dispatcher's side of the queue.

    `limit_rows` bounds what is queued or leased, `limit_escalations` what waits for the cloud; `reply_ttl` (seconds) and
    `limit_reply_bytes` bound what is kept for duplicates and late readers. `clock` gives Unix seconds.
    """

    def __init__(
        self,
        db: Database,
        *,
        limit_rows: int = 1000,
        limit_escalations: int = 10_000,
        reply_ttl: float = 86400.0,
        limit_reply_bytes: int = 64 << 20,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._db = db
        self._limit_rows = limit_rows
        self._limit_escalations = limit_escalations
        self._reply_ttl = reply_ttl
        self._limit_reply_bytes = limit_reply_bytes
        self._clock = clock

    async def accept(self, request: Request) -> Accepted:
        """Once this returns, the request survives a crash. Duplicates are told by `request.key`.

        Raises `BadRequest` (reason "idempotency_conflict") if the key was used for something else, `QueueFull`,
        `StoreUnavailable`.
        """
        _storable(request.key)

        async def insert(conn: aiosqlite.Connection) -> Accepted:
            known = await _duplicate(conn, request)
            if known is not None:
                return known
            await _bound(conn, f"SELECT count(*) FROM inbox WHERE {INBOX_OPEN}", self._limit_rows)
            await conn.execute_fetchall(_INSERT, _columns(request, "queued", None))
            return Accepted("new")

        return await self._db.write(insert, intake=True, wake=(TOPIC,))

    async def lease(self, now: float, seconds: float) -> Request | None:
        """The most urgent that is free, for `seconds`; counts an attempt. An expired lease is free again."""
        move = INBOX["lease"]

        async def take(conn: aiosqlite.Connection) -> Request | None:
            rows = list(
                await conn.execute_fetchall(
                    f"UPDATE inbox SET {move.set}, free_at = ?, attempts = attempts + 1 WHERE seq = "
                    f"(SELECT seq FROM inbox WHERE {move.guard} AND free_at <= ?"
                    " ORDER BY rank, deadline, accepted_at, seq LIMIT 1) RETURNING request",
                    (now + seconds, now),
                )
            )
            return Request.from_wire(json.loads(rows[0]["request"])) if rows else None

        return await self._db.write(take)

    async def release(self, key: str, error: EdgedError, delay: float) -> int:
        """Back to the queue, for `delay` seconds or until its deadline. Returns the attempts so far; 0 for an unknown key.

        Does nothing to one that is not leased. What was held back to save power was no attempt.
        """
        taken_back = int(isinstance(error, PowerSaving))
        move, not_before, why = INBOX["release"], self._clock() + delay, f"{error.code}: {error.detail}"

        async def put_back(conn: aiosqlite.Connection) -> int:
            await conn.execute_fetchall(
                f"UPDATE inbox SET {move.set}, free_at = min(?, deadline), last_error = ?, attempts = attempts - ?"
                f" WHERE key = ? AND {move.guard}",
                (not_before, why, taken_back, key),
            )
            rows = list(await conn.execute_fetchall("SELECT attempts FROM inbox WHERE key = ?", (key,)))
            return int(rows[0]["attempts"]) if rows else 0

        return await self._db.write(put_back, wake=(TOPIC,))

    async def finish(self, request: Request, reply: Reply) -> bool:
        """Request done and final reply written, in one transaction. False, and nothing is written, if it was done before.

        An escalation that is still open ends with it.
        """
        now = self._clock()

        async def end(conn: aiosqlite.Connection) -> bool:
            return await settle(conn, request, reply, now)

        return await self._db.write(end, wake=(door_topic(request.caller.door),))

    async def escalate(self, request: Request, interim: Reply, escalation: Escalation) -> bool:
        """Request escalated (and inserted, if it was not durable), escalation and interim reply written, in one transaction.

        False, and nothing is written, if it was escalated or done before. Raises `QueueFull`.
        """
        now, move = self._clock(), INBOX["escalate"]
        upsert = (
            f"{_INSERT} ON CONFLICT (key) DO UPDATE SET {move.set}, ticket = excluded.ticket WHERE inbox.{move.guard}"
            " RETURNING 1"
        )

        async def hand_over(conn: aiosqlite.Connection) -> bool:
            await _bound(conn, f"SELECT count(*) FROM escalations WHERE {ESCALATION_OPEN}", self._limit_escalations)
            if not await conn.execute_fetchall(upsert, _columns(request, move.target, escalation.ticket)):
                return False
            await conn.execute_fetchall(
                "INSERT INTO escalations (ticket, request_key, state, created, expires_at, free_at)"
                " VALUES (?, ?, 'waiting', ?, ?, min(?, ?))",
                (
                    *(escalation.ticket, request.key, escalation.created, escalation.expires_at),
                    *(escalation.not_before, escalation.expires_at),
                ),
            )
            return await put_reply(conn, request, interim, "interim", now)

        return await self._db.write(hand_over, wake=(escalations.TOPIC, door_topic(request.caller.door)))

    async def status(self, key: str) -> tuple[InboxState, Reply | None, Reply | None] | None:
        """State, final reply, interim reply; None for an unknown key.

        A final reply of the HTTP door counts as delivered with this: there it is fetched, not sent.
        """
        if not _is_storable(key):
            return None
        rows = await self._db.read(_STATUS, (key,))
        if not rows:
            return None
        [row] = rows
        if row["final"] and row["door"] == "http" and row["delivered"] is None:
            with suppress(StoreUnavailable):
                await self._fetched(row["id"])
        return cast(InboxState, row["state"]), _reply(row["final"]), _reply(row["interim"])

    async def by_ticket(self, ticket: str) -> str | None:
        """The key of the request that was escalated under this ticket."""
        if not _is_storable(ticket):
            return None
        rows = await self._db.read("SELECT key FROM inbox WHERE ticket = ?", (ticket,))
        return str(rows[0]["key"]) if rows else None

    async def attempts(self, key: str) -> int:
        """How often it was leased; a crash of the whole daemon counts. 0 for an unknown key."""
        rows = await self._db.read("SELECT attempts FROM inbox WHERE key = ?", (key,))
        return int(rows[0]["attempts"]) if rows else 0

    async def counts(self) -> dict[str, int]:
        """Rows by state; states without rows are left out."""
        return {row[0]: row[1] for row in await self._db.read("SELECT state, count(*) FROM inbox GROUP BY state")}

    async def recover(self) -> int:
        """At boot: nobody holds a lease any more. Returns how many went back to the queue."""
        move = INBOX["recover"]

        async def free(conn: aiosqlite.Connection) -> int:
            sql = f"UPDATE inbox SET {move.set}, free_at = 0 WHERE {move.guard} RETURNING 1"
            return len(list(await conn.execute_fetchall(sql)))

        return await self._db.write(free, wake=(TOPIC,))

    async def purge(self, now: float) -> int:
        """Forget what is older than the time to live, and the oldest beyond the limit of bytes; returns how many rows.

        See `retention`. The daemon calls it now and then; `now` is Unix seconds.
        """

        async def forget(conn: aiosqlite.Connection) -> int:
            return await retention.forget(conn, now, self._reply_ttl, self._limit_reply_bytes)

        return await self._db.write(forget)

    async def next_due(self, now: float) -> float | None:
        """When the next one may be leased (`now` if one is free already), or None if none is open."""
        [row] = await self._db.read(f"SELECT min(free_at) FROM inbox WHERE {INBOX_OPEN}")
        return None if row[0] is None else max(now, row[0])

    def version(self) -> int:
        """For `wait_changed`: take it before looking."""
        return self._db.changes.version(TOPIC)

    async def wait_changed(self, seen: int | None = None) -> int:
        """Until something came or was released. Only the sole waiter may leave `seen` out."""
        return await self._db.changes.wait(TOPIC, seen)

    async def _fetched(self, row_id: int) -> None:
        now = self._clock()

        async def mark(conn: aiosqlite.Connection) -> None:
            await conn.execute_fetchall("UPDATE outbox SET delivered = ? WHERE id = ?", (now, row_id))

        await self._db.write(mark)


async def _duplicate(conn: aiosqlite.Connection, request: Request) -> Accepted | None:
    rows = list(await conn.execute_fetchall(_STATUS, (request.key,)))
    if not rows:
        return None
    first = Request.from_wire(json.loads(rows[0]["request"]))
    if (first.agent, first.text) != (request.agent, request.text):
        raise BadRequest(
            "this id was used for another request; choose a new one", reason="idempotency_conflict", id=request.id
        )
    if rows[0]["state"] == "done":
        return Accepted("answered", _reply(rows[0]["final"]))
    return Accepted("pending", _reply(rows[0]["interim"]))


async def _bound(conn: aiosqlite.Connection, count: str, limit: int) -> None:
    [(rows,)] = await conn.execute_fetchall(count)
    if rows >= limit:
        raise QueueFull("the queue is full; try again later", retry_after=_FULL_RETRY_AFTER, limit=limit)


def _columns(request: Request, state: str, ticket: str | None) -> tuple[str | float | None, ...]:
    deadline = math.inf if request.deadline is None else request.deadline
    wire = json.dumps(request.to_wire())
    return (request.key, state, wire, ticket, request.priority.rank, deadline, request.accepted_at)


def _reply(body: str | None) -> Reply | None:
    return None if body is None else Reply.from_wire(json.loads(body))


def _is_storable(key: str) -> bool:
    """JSON can carry half a surrogate pair, SQLite cannot."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def _storable(key: str) -> None:
    if not _is_storable(key):
        raise BadRequest("the id is not valid Unicode")
