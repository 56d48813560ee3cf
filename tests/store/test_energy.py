"""Sums of energy by day: added up, kept over a restart, the oldest given up."""

from __future__ import annotations

from pathlib import Path

from edged.store.database import Database
from edged.store.energy import EnergyDays, Spent


async def test_sums_survive_a_restart(tmp_path: Path) -> None:
    key = ("2025-11-22", "kiosk", "measured")
    async with Database.open(tmp_path / "edged.db", ballast_bytes=0) as db:
        await EnergyDays(db).add({key: Spent(2, 1.5), ("2025-11-22", "kiosk", "estimated"): Spent(1, 0.5)})
    async with Database.open(tmp_path / "edged.db", ballast_bytes=0) as db:
        days = EnergyDays(db)
        await days.add({key: Spent(1, 0.25), ("2025-11-23", "home", "measured"): Spent(1, 9.0)})
        assert await days.of("2025-11-22") == {
            ("kiosk", "measured"): Spent(3, 1.75),
            ("kiosk", "estimated"): Spent(1, 0.5),
        }
        assert await days.of("2025-11-24") == {}


async def test_the_oldest_days_give_way(tmp_path: Path) -> None:
    async with Database.open(tmp_path / "edged.db", ballast_bytes=0) as db:
        days = EnergyDays(db)
        await days.add(
            {(f"{2000 + n // 12:04}-{n % 12 + 1:02}-01", "a", "measured"): Spent(1, 1.0) for n in range(402)}
        )
        assert await days.of("2000-02-01") == {}
        assert await days.of("2000-03-01") == {("a", "measured"): Spent(1, 1.0)}
