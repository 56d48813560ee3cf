"""Calls that must not happen twice: written before they run, so that after a crash the doubt is known and reported.

A call that began and never ended may or may not have had its effect. It is never run again; the agent says so.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Literal

import aiosqlite

from edged.domain.messages import ToolCall, ToolResult
from edged.store.database import Database
from edged.store.states import INBOX_OPEN

__all__ = ["Effects"]


class Effects:
    """The record of calls by (request key, index of the call in the request). `clock` gives Unix seconds."""

    def __init__(self, db: Database, clock: Callable[[], float] = time.time) -> None:
        self._db = db
        self._clock = clock

    async def begin(self, request_key: str, index: int, call: ToolCall) -> Literal["fresh", "interrupted"] | ToolResult:
        """Record it and say "fresh": run it. Or what came of it before. Or "interrupted": do not run it.

        An earlier attempt may have made another call here (a model need not repeat itself); then its effect stands and this
        one counts as interrupted, too: a request that orders once must not order twice.
        """
        wanted, now = json.dumps([call.name, call.arguments], sort_keys=True), self._clock()

        async def record(conn: aiosqlite.Connection) -> Literal["fresh", "interrupted"] | ToolResult:
            fresh = await conn.execute_fetchall(
                "INSERT OR IGNORE INTO effects (request_key, position, call, begun) VALUES (?, ?, ?, ?) RETURNING 1",
                (request_key, index, wanted, now),
            )
            if fresh:
                return "fresh"
            [row] = await conn.execute_fetchall(
                "SELECT call, result FROM effects WHERE request_key = ? AND position = ?", (request_key, index)
            )
            if row["result"] is None or row["call"] != wanted:
                return "interrupted"
            return replace(ToolResult(**json.loads(row["result"])), call_id=call.id)

        return await self._db.write(record)

    async def end(self, request_key: str, index: int, result: ToolResult) -> None:
        """What came of it, good or bad. The first result stands."""
        body = json.dumps(asdict(result))

        async def record(conn: aiosqlite.Connection) -> None:
            await conn.execute_fetchall(
                "UPDATE effects SET result = ? WHERE request_key = ? AND position = ? AND result IS NULL",
                (body, request_key, index),
            )

        await self._db.write(record)

    async def purge(self, older_than: float) -> None:
        """Forget what began before then (Unix seconds), but nothing of a request that may still be tried again."""

        async def forget(conn: aiosqlite.Connection) -> None:
            await conn.execute_fetchall(
                "DELETE FROM effects WHERE begun < ? AND request_key NOT IN"
                f" (SELECT key FROM inbox WHERE {INBOX_OPEN} OR state = 'escalated')",
                (older_than,),
            )

        await self._db.write(forget)
