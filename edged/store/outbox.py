"""What must reach somebody: replies and events, kept until a door has delivered them, and for their time to live after.

A reply row is written by `put_reply` alone, in the transaction that moves its request; the schema allows one interim and one
final row a request.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from sqlite3 import Row
from typing import Any, Literal, NoReturn, cast

import aiosqlite

from edged.domain.errors import EdgedError
from edged.domain.messages import Event, Reply, Request
from edged.store.database import Database

__all__ = ["Kind", "Outbox", "OutboxRow", "door_topic", "put_reply"]

Kind = Literal["interim", "final", "event"]

_INSERT = """
    INSERT OR IGNORE INTO outbox (door, request_key, kind, route, body, created) VALUES (?, ?, ?, ?, ?, ?) RETURNING 1
"""


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One thing to deliver. `body` is the wire form of a `Reply`, or of an `Event` where `kind` is "event"."""

    id: int
    door: str
    request_key: str
    kind: Kind
    route: dict[str, Any]
    body: dict[str, Any]
    created: float
    delivered: float | None


def door_topic(door: str) -> str:
    """The name in `Database.changes` of what waits for a door."""
    return f"outbox:{door}"


async def put_reply(
    conn: aiosqlite.Connection, request: Request, reply: Reply, kind: Literal["interim", "final"], now: float
) -> bool:
    """Write a reply to its caller's door. False if the request has one of this kind already, which then stands."""
    values = (request.caller.door, request.key, kind, json.dumps(request.route), json.dumps(reply.to_wire()), now)
    return bool(await conn.execute_fetchall(_INSERT, values))


class Outbox:
    """The doors' side of the outbox. `clock` gives Unix seconds."""

    def __init__(self, db: Database, clock: Callable[[], float] = time.time) -> None:
        self._db = db
        self._clock = clock

    async def pending(self, door: str, limit: int = 100, kind: Kind | None = None) -> list[OutboxRow]:
        """What the door has not delivered, oldest first, of one kind or all; what is in flight is in it too."""
        sql = (
            "SELECT * FROM outbox WHERE door = :door AND delivered IS NULL AND kind = coalesce(:kind, kind)"
            " ORDER BY id LIMIT :limit"
        )
        return [_row(row) for row in await self._db.read(sql, {"door": door, "kind": kind, "limit": limit})]

    async def delivered(self, ids: Iterable[int]) -> None:
        """The other side has these; unknown ids are ignored."""
        now, wanted = self._clock(), json.dumps(list(ids))

        async def mark(conn: aiosqlite.Connection) -> None:
            await conn.execute_fetchall(
                "UPDATE outbox SET delivered = ? WHERE delivered IS NULL AND id IN (SELECT value FROM json_each(?))",
                (now, wanted),
            )

        await self._db.write(mark)

    async def emit(self, event: Event, doors: Sequence[str]) -> bool:
        """Announce an event at these doors. False if its (source, key) was announced before, within the time to live."""
        key = json.dumps([event.source, event.key])
        body, now = json.dumps(event.to_wire()), self._clock()

        async def insert(conn: aiosqlite.Connection) -> bool:
            rows = [
                await conn.execute_fetchall(_INSERT, (door, key, "event", "{}", body, now))
                for door in sorted(set(doors))
            ]
            return any(rows)

        return await self._db.write(insert, wake=[door_topic(door) for door in doors])

    async def announce(self, events: asyncio.Queue[Event], doors: Sequence[str]) -> NoReturn:
        """Emit what comes until cancelled. On a full disk it waits; it is not lost while the process lives."""
        while True:
            event = await events.get()
            while True:
                try:
                    await self.emit(event, doors)
                    break
                except EdgedError as error:
                    await asyncio.sleep(error.retry_after or 5.0)

    def version(self, door: str) -> int:
        """For `wait_changed`: take it before looking."""
        return self._db.changes.version(door_topic(door))

    async def wait_changed(self, door: str, seen: int | None = None) -> int:
        """Until there is something new for the door. Only the sole waiter of a door may leave `seen` out."""
        return await self._db.changes.wait(door_topic(door), seen)


def _row(row: Row) -> OutboxRow:
    return OutboxRow(
        id=row["id"],
        door=row["door"],
        request_key=row["request_key"],
        kind=cast(Kind, row["kind"]),
        route=json.loads(row["route"]),
        body=json.loads(row["body"]),
        created=row["created"],
        delivered=row["delivered"],
    )
