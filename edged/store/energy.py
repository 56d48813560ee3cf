"""What each agent's requests cost a day, by how it is known. Sums only: single requests tell their own in the reply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiosqlite

from edged.store.database import Database

__all__ = ["EnergyDays", "Spent"]

_DAYS = 400


@dataclass(frozen=True, slots=True)
class Spent:
    """A number of requests and their joules together."""

    requests: int = 0
    joules: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.requests + other.requests, self.joules + other.joules)


class EnergyDays:
    """By (day, agent, source). A day is a date as text, of the device's own time zone."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def add(self, spent: Mapping[tuple[str, str, str], Spent]) -> None:
        """Add to what is there; committed when it returns. The oldest days give way. Raises `StoreUnavailable`."""
        rows = [(*key, value.requests, value.joules) for key, value in spent.items()]

        async def upsert(conn: aiosqlite.Connection) -> None:
            for row in rows:
                await conn.execute_fetchall(
                    "INSERT INTO energy (day, agent, source, requests, joules) VALUES (?, ?, ?, ?, ?)"
                    " ON CONFLICT (day, agent, source) DO UPDATE SET"
                    " requests = requests + excluded.requests, joules = joules + excluded.joules",
                    row,
                )
            await conn.execute_fetchall(
                "DELETE FROM energy WHERE day NOT IN (SELECT DISTINCT day FROM energy ORDER BY day DESC LIMIT ?)",
                (_DAYS,),
            )

        await self._db.write(upsert)

    async def of(self, day: str) -> dict[tuple[str, str], Spent]:
        """By (agent, source)."""
        rows: list[Any] = await self._db.read(
            "SELECT agent, source, requests, joules FROM energy WHERE day = ?", (day,)
        )
        return {(row["agent"], row["source"]): Spent(row["requests"], row["joules"]) for row in rows}
