"""What was said before, by session and caller: a caller never sees another's messages, whatever session it names."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence

import aiosqlite

from edged.domain.messages import Message
from edged.store.database import Database

__all__ = ["Sessions"]


class Sessions:
    """Chat messages of earlier requests. `clock` gives Unix seconds."""

    def __init__(self, db: Database, clock: Callable[[], float] = time.time) -> None:
        self._db = db
        self._clock = clock

    async def load(self, session: str, caller_id: str, limit: int) -> list[Message]:
        """The last `limit` messages, oldest first."""
        rows = await self._db.read(
            "SELECT message FROM messages WHERE session = ? AND caller_id = ? ORDER BY seq DESC LIMIT ?",
            (session, caller_id, limit),
        )
        return [Message.from_wire(json.loads(row["message"])) for row in reversed(rows)]

    async def append(self, session: str, caller_id: str, messages: Sequence[Message]) -> None:
        """All of `messages`, or none. Append once a request is finished: a retry would say it all again."""
        now = self._clock()
        rows = [(session, caller_id, json.dumps(message.to_wire()), now) for message in messages]

        async def insert(conn: aiosqlite.Connection) -> None:
            sql = "INSERT INTO messages (session, caller_id, message, at) VALUES (?, ?, ?, ?)"
            async with conn.executemany(sql, rows):
                pass

        await self._db.write(insert)

    async def purge(self, older_than: float) -> None:
        """Forget what was said before then (Unix seconds)."""

        async def forget(conn: aiosqlite.Connection) -> None:
            await conn.execute_fetchall("DELETE FROM messages WHERE at < ?", (older_than,))

        await self._db.write(forget)
