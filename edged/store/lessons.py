"""Sentences that an operator taught: which tool of an agent they ask for. A sentence has one meaning; the last one taught holds.

They are few and looked up with every request, so all of them are also in memory, as they were last committed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import aiosqlite

from edged.store.database import Database

__all__ = ["MOST", "Lessons"]

MOST: Final = 64
"""Sentences that a tool may have; the oldest give way."""


class Lessons:
    """By agent and tool. `clock` gives Unix seconds. `load` comes first."""

    def __init__(self, db: Database, clock: Callable[[], float] = time.time) -> None:
        self._db = db
        self._clock = clock
        self._known: dict[str, dict[str, tuple[str, ...]]] = {}

    async def load(self) -> None:
        """Read all of them. Raises `Unavailable` kinds."""
        rows = await self._db.read("SELECT agent, tool, text FROM lessons ORDER BY seq DESC")
        known: dict[str, dict[str, tuple[str, ...]]] = {}
        for row in rows:
            tools = known.setdefault(row["agent"], {})
            tools[row["tool"]] = (*tools.get(row["tool"], ()), row["text"])
        self._known = known

    def of(self, agent: str, tool: str) -> tuple[str, ...]:
        """The newest first."""
        return self._known.get(agent, {}).get(tool, ())

    def all(self, agent: str) -> dict[str, tuple[str, ...]]:
        """By tool, the newest first."""
        return dict(self._known.get(agent, {}))

    async def add(self, agent: str, tool: str, text: str) -> None:
        """Committed when it returns."""
        now = self._clock()

        async def insert(conn: aiosqlite.Connection) -> None:
            await conn.execute_fetchall("DELETE FROM lessons WHERE agent = ? AND text = ?", (agent, text))
            await conn.execute_fetchall(
                "INSERT INTO lessons (agent, tool, text, taught) VALUES (?, ?, ?, ?)", (agent, tool, text, now)
            )
            await conn.execute_fetchall(
                "DELETE FROM lessons WHERE agent = :agent AND tool = :tool AND seq NOT IN"
                " (SELECT seq FROM lessons WHERE agent = :agent AND tool = :tool ORDER BY seq DESC LIMIT :most)",
                {"agent": agent, "tool": tool, "most": MOST},
            )

        await self._db.write(insert)
        await self.load()

    async def forget(self, agent: str, tool: str, text: str) -> bool:
        """Whether there was such a sentence."""

        async def delete(conn: aiosqlite.Connection) -> bool:
            gone = await conn.execute_fetchall(
                "DELETE FROM lessons WHERE agent = ? AND tool = ? AND text = ? RETURNING 1", (agent, tool, text)
            )
            return bool(list(gone))

        was = await self._db.write(delete)
        await self.load()
        return was
