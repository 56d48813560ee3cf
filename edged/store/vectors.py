"""Texts with their vectors, by collection: what knowledge and the reuse of answers are looked up in.

Rules:
- A vector is comparable with those of its own encoder only. Rows of another encoder stay, so that their texts can be embedded anew
  (`stale`), but no search sees them, and they are the first to go when a collection is full.
- Kept are int8 components in proportion to the vector: a quarter of the bytes in file, frame and worker, and the ten nearest
  are the same but for near ties (docs/decisions/0010-vectors.md).
- The search itself runs in the encoders' child, which has the arithmetic (`workers/nearest`); this process only sends it what it
  lacks. It is told by a stamp: the largest id and the count of rows. Ids are never used twice and rows never change, so what is
  held and what is here are the same exactly if their stamps are.
"""

from __future__ import annotations

import asyncio
import json
import math
import struct
import time
from array import array
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aiosqlite

from edged.domain.errors import BadRequest
from edged.store.database import Database

__all__ = ["Ask", "Entry", "Near", "Vectors", "pack"]

Ask = Callable[[str, dict[str, Any]], Awaitable[Any]]
"""One call of the encoders' child: a verb and its parameters (`search` and `hold` of `workers/nearest`)."""

_PAGE: Final = 2048  # rows in a frame to the worker
_SPACES: Final = "SELECT id FROM vector_spaces WHERE collection = :collection"
# Two subqueries: each is answered by an index, and the largest id by its end; one that asks for both reads it all, slowly.
_STATE: Final = """
    SELECT id, (SELECT max(id) FROM vectors WHERE space = own.id), (SELECT count(*) FROM vectors WHERE space = own.id)
    FROM vector_spaces own WHERE collection = :collection AND encoder = :encoder
"""
_LAST: Final = "SELECT max(id) FROM vectors WHERE space = ?"
_INSERT: Final = """
    INSERT INTO vectors (space, key, vector, body, written, used)
    SELECT ?, ?, ?, ?, ?, coalesce(max(used), 0) + 1 FROM vectors WHERE space = ?
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """What to keep: `vector` is float32, little-endian, of any length but zero; `data` goes into JSON."""

    key: str
    vector: bytes
    text: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Near:
    """What a search found, and how near it is: 1 is the same direction."""

    key: str
    text: str
    data: dict[str, Any]
    cosine: float


def pack(vector: bytes) -> bytes:
    """float32 to int8 in the same direction; its length is lost. Raises `BadRequest` on what has none."""
    if len(vector) % 4 or not vector:
        raise BadRequest("a vector is a row of float32")
    values = struct.unpack(f"<{len(vector) // 4}f", vector)
    largest = max(map(abs, values))
    if not math.isfinite(sum(values)) or largest == 0:
        raise BadRequest("a vector has a direction: finite components, and not all of them zero")
    scale = 127 / largest
    return array("b", [round(value * scale) for value in values]).tobytes()


class Vectors:
    """Collections of at most `limit_rows` rows each; who was used longest ago goes first. `clock` gives Unix seconds."""

    def __init__(self, db: Database, *, limit_rows: int = 10_000, clock: Callable[[], float] = time.time) -> None:
        self._db = db
        self._limit_rows = limit_rows
        self._clock = clock
        self._sending = asyncio.Lock()

    async def add(self, collection: str, encoder: str, entries: Sequence[Entry]) -> None:
        """All of `entries` or none, in place of rows with their keys. `encoder` is the digest of what made the vectors.

        Packing takes some 50 microseconds a vector of this process: add hundreds at a time, not thousands. Raises `BadRequest`,
        `StoreUnavailable`.
        """
        packed = {entry.key: (entry, pack(entry.vector)) for entry in entries}
        widths = {len(vector) for _, vector in packed.values()}
        if len(widths) > 1:
            raise BadRequest(f"vectors of one encoder have one width, not {sorted(widths)}")
        now, width = self._clock(), max(widths, default=0)
        rows = [(e.key, vector, json.dumps([e.text, e.data]), now) for e, vector in packed.values()]
        replaced = {"collection": collection, "keys": json.dumps(list(packed))}

        async def insert(conn: aiosqlite.Connection) -> None:
            space = await _space(conn, collection, encoder, width)
            sql = f"DELETE FROM vectors WHERE space IN ({_SPACES}) AND key IN (SELECT value FROM json_each(:keys))"
            await conn.execute_fetchall(sql, replaced)
            async with conn.executemany(_INSERT, [(space, *row, space) for row in rows]):
                pass
            await _evict(conn, collection, space, self._limit_rows)

        if rows:
            await self._db.write(insert, intake=True)

    async def remove(self, collection: str, keys: Sequence[str]) -> int:
        """Forget these, whatever their encoder; how many there were."""
        wanted = {"collection": collection, "keys": json.dumps(list(keys))}
        return await self._delete("key IN (SELECT value FROM json_each(:keys))", wanted)

    async def purge(self, collection: str, older_than: float) -> int:
        """Forget what was written before then (Unix seconds); how many there were."""
        return await self._delete("written < :older_than", {"collection": collection, "older_than": older_than})

    async def use(self, collection: str, keys: Sequence[str]) -> None:
        """These were of use: they stay longer than what was used before them. Searching alone is no use, and costs no commit."""
        wanted = {"collection": collection, "keys": json.dumps(list(keys))}
        sql = (
            "UPDATE vectors SET used = (SELECT max(other.used) + 1 FROM vectors other WHERE other.space = vectors.space)"
            f" WHERE space IN ({_SPACES}) AND key IN (SELECT value FROM json_each(:keys))"
        )

        async def mark(conn: aiosqlite.Connection) -> None:
            await conn.execute_fetchall(sql, wanted)

        await self._db.write(mark)

    async def count(self, collection: str, encoder: str | None = None) -> int:
        """Rows of one encoder, or of all."""
        sql = f"SELECT count(*) FROM vectors WHERE space IN ({_SPACES} AND encoder = coalesce(:encoder, encoder))"
        [row] = await self._db.read(sql, {"collection": collection, "encoder": encoder})
        return int(row[0])

    async def rows(self, collection: str, after: str = "", limit: int = 100) -> list[tuple[str, str, dict[str, Any]]]:
        """(key, text, data) of the rows whose keys come after `after`, in their order."""
        sql = f"SELECT key, body FROM vectors WHERE space IN ({_SPACES}) AND key > :after ORDER BY key LIMIT :limit"
        found = await self._db.read(sql, {"collection": collection, "after": after, "limit": limit})
        return [(row["key"], *json.loads(row["body"])) for row in found]

    async def stale(self, collection: str, encoder: str, limit: int = 100) -> list[tuple[str, str, dict[str, Any]]]:
        """(key, text, data) of rows that another encoder made: `add` them again with vectors of this one, or `remove` them."""
        sql = f"SELECT key, body FROM vectors WHERE space IN ({_SPACES} AND encoder <> :encoder) ORDER BY key LIMIT :limit"
        found = await self._db.read(sql, {"collection": collection, "encoder": encoder, "limit": limit})
        return [(row["key"], *json.loads(row["body"])) for row in found]

    async def search(self, collection: str, encoder: str, vector: bytes, k: int, ask: Ask) -> list[Near]:
        """The `k` nearest to `vector` (float32) among those of its own encoder, nearest first.

        Sees what was added before it began. Raises what `ask` raises, `BadRequest`, `StoreUnavailable`.
        """
        where, asked = {"collection": collection, "encoder": encoder}, {"vector": vector, "k": k}
        answer = await self._ask(where, asked, ask)
        if not answer["known"]:
            async with self._sending:  # all who came meanwhile wait for one who sends
                answer = await self._ask(where, asked, ask)
                for exact in (True, False):
                    if not answer["known"]:
                        await self._send(answer["space"], answer["stamp"], ask)
                        answer = await self._ask(where, asked, ask, exact=exact)
        return await self._read(answer["found"])

    async def _ask(
        self, where: dict[str, Any], asked: dict[str, Any], ask: Ask, *, exact: bool = True
    ) -> dict[str, Any]:
        """The worker's answer, and the space that was meant.

        Not `exact`: over whatever it holds, since one who writes all the time must not keep us from an answer.
        """
        rows = await self._db.read(_STATE, where)
        space, *stamp = rows[0] if rows else (0, None, 0)
        if not stamp[1]:
            return {"known": True, "found": []}
        answer = await ask("search", {**asked, "key": str(space), "stamp": stamp if exact else None})
        return {**answer, "space": space}

    async def _send(self, space: int, stamp: Sequence[int], ask: Ask) -> None:
        """Bring the worker's copy, of which `stamp` tells, up to what is here now."""
        top, count = stamp
        key, below = str(space), "FROM vectors WHERE space = ? AND id <= ?"
        [row] = await self._db.read(f"SELECT count(*), ({_LAST}) {below}", (space, space, top))
        last = row[1]
        if row[0] != count:
            live = await self._db.read(f"SELECT id {below} ORDER BY id", (space, top))
            keep = array("q", [row["id"] for row in live]).tobytes()
            only = {"key": key, "after": top, "ids": b"", "rows": b"", "keep": keep}
            top = (await ask("hold", only))["stamp"][0]
        sql = "SELECT id, vector FROM vectors WHERE space = ? AND id > ? AND id <= ? ORDER BY id LIMIT ?"
        while page := await self._db.read(sql, (space, top, last, _PAGE)):
            ids, rows = array("q", [row["id"] for row in page]).tobytes(), b"".join([row["vector"] for row in page])
            top = (await ask("hold", {"key": key, "after": top, "ids": ids, "rows": rows}))["stamp"][0]

    async def _read(self, found: Sequence[Sequence[Any]]) -> list[Near]:
        """The rows behind ids; one that was removed meanwhile is left out."""
        sql = "SELECT id, key, body FROM vectors WHERE id IN (SELECT value FROM json_each(?))"
        rows = {row["id"]: row for row in await self._db.read(sql, (json.dumps([id for id, _ in found]),))}
        bodies = {id: json.loads(row["body"]) for id, row in rows.items()}
        return [Near(rows[id]["key"], bodies[id][0], bodies[id][1], cosine) for id, cosine in found if id in rows]

    async def _delete(self, condition: str, params: dict[str, Any]) -> int:
        sql = f"DELETE FROM vectors WHERE space IN ({_SPACES}) AND {condition} RETURNING 1"

        async def forget(conn: aiosqlite.Connection) -> int:
            return len(list(await conn.execute_fetchall(sql, params)))

        return await self._db.write(forget)


async def _space(conn: aiosqlite.Connection, collection: str, encoder: str, width: int) -> int:
    """The id of an encoder's space, made if need be; those of other encoders that are empty by now are dropped."""
    await conn.execute_fetchall(
        "DELETE FROM vector_spaces WHERE collection = ? AND encoder <> ?"
        " AND NOT EXISTS (SELECT 1 FROM vectors WHERE space = vector_spaces.id)",
        (collection, encoder),
    )
    await conn.execute_fetchall(
        "INSERT OR IGNORE INTO vector_spaces (collection, encoder, width) VALUES (?, ?, ?)",
        (collection, encoder, width),
    )
    [row] = await conn.execute_fetchall(
        "SELECT id, width FROM vector_spaces WHERE collection = ? AND encoder = ?", (collection, encoder)
    )
    if row["width"] != width:
        raise BadRequest(f"a vector of {width} components among those of {row['width']}")
    return int(row["id"])


async def _evict(conn: aiosqlite.Connection, collection: str, space: int, limit: int) -> None:
    """Down to `limit` rows: first those that no search sees, then those used longest ago."""
    [row] = await conn.execute_fetchall(
        f"SELECT count(*) FROM vectors WHERE space IN ({_SPACES})", {"collection": collection}
    )
    over = row[0] - limit
    for among in (f"space IN ({_SPACES}) AND space <> :space", "space = :space"):
        if over > 0:
            gone = await conn.execute_fetchall(
                f"DELETE FROM vectors WHERE id IN (SELECT id FROM vectors WHERE {among} ORDER BY used, id LIMIT :over)"
                " RETURNING 1",
                {"collection": collection, "space": space, "over": over},
            )
            over -= len(list(gone))
