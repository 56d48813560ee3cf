"""What may be forgotten, and when: the answer to a request is kept for duplicates and late readers, within bounds.

Nothing of an open request is ever forgotten. A clock that is not set yet judges no age (a device without a battery for its
clock boots in the past); what it stamped begins to age when it is set.
"""

from __future__ import annotations

import json
from typing import Final

import aiosqlite

__all__ = ["forget"]

# 2023-11-14: no device whose clock is set is before this.
_CLOCK_IS_SET: Final = 1_700_000_000.0
_OPEN: Final = "SELECT key FROM inbox WHERE state <> 'done'"
# What is delivered goes first, then the oldest, until the rest fits.
_OVERFLOW: Final = f"""
    WITH kept AS (
        SELECT id, sum(length(body) + length(route)) OVER (ORDER BY delivered IS NOT NULL, id DESC) AS bytes
        FROM outbox WHERE request_key NOT IN ({_OPEN})
    )
    DELETE FROM outbox WHERE id IN (SELECT id FROM kept WHERE bytes > ?) RETURNING request_key
"""


async def forget(conn: aiosqlite.Connection, now: float, seconds: float, limit_bytes: int) -> int:
    """Drop answered requests and their replies (events too) after `seconds`, or beyond `limit_bytes`.

    Returns the number of requests forgotten.
    """
    dropped = 0
    if now >= _CLOCK_IS_SET:
        await _restamp(conn, now)
        old = "DELETE FROM inbox WHERE state = 'done' AND done_at <= ? RETURNING 1"
        dropped += len(list(await conn.execute_fetchall(old, (now - seconds,))))
        await conn.execute_fetchall(
            "DELETE FROM outbox WHERE created <= ? AND request_key NOT IN (SELECT key FROM inbox)", (now - seconds,)
        )
    over = await conn.execute_fetchall(_OVERFLOW, (limit_bytes,))
    keys = json.dumps(sorted({row["request_key"] for row in over}))
    unanswered = (
        "DELETE FROM inbox WHERE state = 'done' AND key IN (SELECT value FROM json_each(?))"
        " AND NOT EXISTS (SELECT 1 FROM outbox WHERE request_key = key AND kind = 'final') RETURNING 1"
    )
    return dropped + len(list(await conn.execute_fetchall(unanswered, (keys,))))


async def _restamp(conn: aiosqlite.Connection, now: float) -> None:
    for table, column in (("inbox", "done_at"), ("outbox", "created")):
        sql = f"UPDATE {table} SET {column} = ? WHERE {column} < ? OR {column} > ?"
        await conn.execute_fetchall(sql, (now, _CLOCK_IS_SET, now))
