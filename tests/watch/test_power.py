"""The watch over a real tree of files, and what each state holds back, as a table."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sysfs_trees import LAPTOP, NUC, PI, VM, grow

from edged.device.governor import Standing
from edged.domain.errors import StoreUnavailable
from edged.domain.messages import Priority
from edged.domain.meters import Meters
from edged.domain.power import Energy, PowerPlan, PowerState
from edged.store.database import Database
from edged.store.energy import EnergyDays
from edged.watch.finding import found
from edged.watch.power import Power, Totals
from edged.watch.saving import refusal

HIGH, NORMAL, LOW = Priority
MAINS, BATTERY, SAVER, HOT, CRITICAL = PowerState
ALL = {HIGH, NORMAL, LOW}


@pytest.mark.parametrize(
    ("state", "battery", "plan", "served"),
    [
        (MAINS, True, {}, ALL),
        (BATTERY, True, {}, ALL),
        (SAVER, True, {}, {HIGH, NORMAL}),
        (HOT, True, {}, {HIGH, NORMAL}),
        (CRITICAL, True, {}, {HIGH}),
        *((state, False, {}, ALL) for state in PowerState),
        (CRITICAL, False, {"without_battery": True}, {HIGH}),
        (BATTERY, True, {"refuse_low": (BATTERY,)}, {HIGH, NORMAL}),
        (CRITICAL, True, {"refuse_normal": ()}, ALL),
        (SAVER, True, {"refuse_normal": (SAVER,)}, {HIGH}),
    ],
)
def test_what_is_held_back(state: PowerState, battery: bool, plan: dict[str, Any], served: set[Priority]) -> None:
    standing = Standing(state, 0.0, "because")
    assert {p for p in Priority if refusal(standing, battery, p, PowerPlan(**plan)) is None} == served


def test_a_refusal_says_why_and_what_to_do() -> None:
    error = refusal(Standing(SAVER, 0.0, "on battery with 20 %"), True, LOW, PowerPlan())
    assert error is not None
    assert (error.code, error.retry_after, error.fields) == ("power_saving", 60.0, {"state": "saver"})
    assert "on battery with 20 %" in error.detail
    assert "normal priority" in error.detail
    assert "connect power" in error.detail
    hot = refusal(Standing(HOT, 0.0, "cpu", heat=HOT), True, LOW, PowerPlan())
    assert hot is not None
    assert "cool down" in hot.detail


@pytest.fixture
def days(db: Database) -> EnergyDays:
    return EnergyDays(db)


class Watched:
    """A `Power` whose sleeps are turned by hand; `pauses` are what it asked for."""

    def __init__(self, root: Path, days: EnergyDays) -> None:
        self.now = 1000.0
        self.meters = Meters()
        plan = PowerPlan(sysfs=str(root))
        self.power = Power(plan, self.meters, days, now=lambda: self.now, sleep=self._sleep)
        self.pauses: asyncio.Queue[float] = asyncio.Queue()
        self._go = asyncio.Semaphore(0)

    async def _sleep(self, seconds: float) -> None:
        self.pauses.put_nowait(seconds)
        await self._go.acquire()
        self.now += seconds

    async def next(self) -> float:
        """Let it look once more; returns how long it would sleep then."""
        self._go.release()
        return await self.pauses.get()


async def test_the_watch_follows_the_device(tmp_path: Path, days: EnergyDays) -> None:
    here = Watched(grow(tmp_path / "sys", LAPTOP), days)
    assert (await here.power.status())["assumed"] is True  # not looked yet
    assert here.power.refusal(LOW) is None
    task = asyncio.ensure_future(here.power.watch())
    assert await here.pauses.get() == 10.0
    status = await here.power.status()
    assert (status["state"], status["assumed"], status["why"]) == ("battery", False, "on battery with 84 %")
    assert {"name": "AC", "kind": "mains", "source": "class/power_supply/AC", "quality": "good"}.items() <= next(
        sensor for sensor in status["sensors"] if sensor["name"] == "AC"
    ).items()
    grow(tmp_path / "sys", {"class/power_supply/BAT0/capacity": 9})
    assert await here.next() == 10.0
    refused = here.power.refusal(NORMAL)
    assert refused is not None
    assert refused.fields == {"state": "critical"}
    grow(tmp_path / "sys", {"class/power_supply/BAT0/status": "Charging", "class/power_supply/AC/online": 1})
    assert await here.next() == 60.0  # held by its least time, but looked at as on mains
    assert (await here.power.status())["state"] == "critical"
    await here.next()
    assert (await here.power.status())["state"] == "mains"
    assert here.power.refusal(LOW) is None
    counted = here.meters.snapshot()
    assert counted == {"power.battery": 1, "power.critical": 1, "power.mains": 1, "power.refused": 1}
    task.cancel()
    await asyncio.wait([task])


async def test_where_nothing_tells_there_is_one_look_and_no_more(tmp_path: Path, days: EnergyDays) -> None:
    power = Power(PowerPlan(sysfs=str(grow(tmp_path / "sys", VM))), Meters(), days)
    async with asyncio.timeout(5):
        await power.watch()
    status = await power.status()
    assert (status["state"], status["assumed"], status["sensors"]) == ("mains", True, [])
    assert status["why"] == "assumed: nothing here tells of power"
    assert status["energy"] is None


async def test_totals_are_of_today_and_survive(days: EnergyDays) -> None:
    clock = [1_763_800_000.0]
    totals = Totals(days, wall=lambda: clock[0], is_set=lambda: True)
    totals.book("kiosk", Energy(1.5, "measured"))
    totals.book("kiosk", Energy(0.5, "estimated"))
    before = await totals.today()
    await totals.write()
    totals.book("kiosk", Energy(1.0, "measured"))
    assert before["agents"]["kiosk"]["measured"] == {"requests": 1, "joules": 1.5}
    again = Totals(days, wall=lambda: clock[0], is_set=lambda: True)
    assert (await again.today()) == before
    assert (await totals.today())["agents"]["kiosk"]["measured"] == {"requests": 2, "joules": 2.5}
    clock[0] += 86400
    assert (await totals.today())["agents"] == {}


async def test_totals_are_written_a_minute_later_and_wait_for_a_full_disk(db: Database) -> None:
    class Full(EnergyDays):
        """Refuses the first write."""

        writes = 0

        async def add(self, spent: Any) -> None:
            Full.writes += 1
            if Full.writes == 1:
                raise StoreUnavailable("disk full")
            await super().add(spent)
            written.set()

    pauses: list[float] = []
    written = asyncio.Event()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    totals = Totals(Full(db), sleep=sleep)
    task = asyncio.ensure_future(totals.keep())
    totals.book("a", Energy(1.0, "estimated"))
    async with asyncio.timeout(5):
        await written.wait()
    totals.book("a", Energy(2.0, "estimated"))
    assert (await totals.today())["agents"] == {"a": {"estimated": {"requests": 2, "joules": 3.0}}}
    assert pauses[:2] == [60.0, 60.0]
    task.cancel()
    await asyncio.wait([task])


async def test_a_device_that_does_not_know_the_date(days: EnergyDays) -> None:
    totals = Totals(days, wall=lambda: 60.0, is_set=lambda: False)
    totals.book("a", Energy(1.0, "estimated"))
    assert (await totals.today())["day"] == "unknown"


@pytest.mark.parametrize(
    ("tree", "changes", "level", "told"),
    [
        (VM, {}, "ok", "mains: assumed: nothing here tells of power"),
        (LAPTOP, {}, "ok", "battery: on battery with 84 %; sensors: BAT0, AC"),
        (PI, {"class/hwmon/hwmon1/in0_lcrit_alarm": 1}, "warn", "under-voltage"),
        (NUC, {"class/powercap/intel-rapl:0/energy_uj": ""}, "warn", "class/powercap/intel-rapl:0"),
    ],
)
def test_what_the_doctor_says(tmp_path: Path, tree: Any, changes: dict[str, Any], level: str, told: str) -> None:
    seen, text, todo = found(PowerPlan(sysfs=str(grow(tmp_path, {**tree, **changes})), account=True))
    assert (seen, bool(todo)) == (level, level == "warn")
    assert told in text
