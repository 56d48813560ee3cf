"""Looks at the device's power now and then, keeps its state, and holds models back by it.

A look every ten seconds on battery, every minute else, and none at all where there is nothing to look at. The day's energy is
written a minute after a request, not with each: a power cut costs that minute of the sums and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from edged.device import clock
from edged.device.energy import Gauge
from edged.device.governor import Standing, judge
from edged.device.power import read_power
from edged.domain.errors import PowerSaving, StoreUnavailable
from edged.domain.messages import Priority
from edged.domain.meters import Meters
from edged.domain.power import Energy, PowerPlan, PowerReading, PowerState
from edged.store.energy import EnergyDays, Spent
from edged.watch.saving import refusal

__all__ = ["Power", "Totals"]

log = logging.getLogger("edged.power")

_ON_BATTERY_SECONDS: Final = 10.0
_ELSE_SECONDS: Final = 60.0
_WRITE_SECONDS: Final = 60.0


class Power:
    """The device's power as the daemon sees it. `now` is monotonic seconds."""

    def __init__(
        self,
        plan: PowerPlan,
        meters: Meters,
        days: EnergyDays,
        *,
        now: Callable[[], float] = time.monotonic,
        look: Callable[[Path], PowerReading] = read_power,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.plan = plan
        self.gauge = Gauge(Path(plan.sysfs), now)
        self.totals = Totals(days)
        self._meters = meters
        self._now = now
        self._look = look
        self._sleep = sleep
        self._reading = PowerReading()
        self._standing: Standing | None = None
        self._looked_at = now()

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """What is to be run, each as a task."""
        return [self.watch(), *([self.totals.keep()] if self.plan.account else [])]

    async def watch(self) -> None:
        """Look until there is nothing to look at; a battery that is plugged in later is then found by the next start."""
        while True:
            reading = await asyncio.to_thread(self._look, Path(self.plan.sysfs))
            self._take(reading)
            if not reading.telling:
                return
            await self._sleep(_ON_BATTERY_SECONDS if reading.discharging else _ELSE_SECONDS)

    def refusal(self, priority: Priority) -> PowerSaving | None:
        """Why a request of this priority gets no local model now; None where it does."""
        if self._standing is None:
            return None
        found = refusal(self._standing, self._reading.battery, priority, self.plan)
        if found is not None:
            self._meters.count("power.refused")
        return found

    async def status(self) -> dict[str, Any]:
        """state, since (Unix seconds), why, assumed, looked_seconds_ago, sensors with source and quality, and, where it is
        accounted for, the energy of today."""
        standing = self._standing or Standing(
            PowerState.MAINS, self._looked_at, "assumed: not looked yet", assumed=True
        )
        return {
            "state": str(standing.state),
            "since": round(time.time() - (self._now() - standing.since), 1),
            "why": standing.why,
            "assumed": standing.assumed,
            "looked_seconds_ago": round(self._now() - self._looked_at, 1),
            "sensors": [sensor.to_wire() for sensor in self._reading.sensors],
            "energy": await self.totals.today() if self.plan.account else None,
        }

    def _take(self, reading: PowerReading) -> None:
        before = self._standing
        self._reading, self._looked_at = reading, self._now()
        self._standing = judge(reading, before, self.plan, self._looked_at)
        self.gauge.looked(reading.watts)
        if before is None or before.state is not self._standing.state:
            self._meters.count(f"power.{self._standing.state}")
            log.info("power: %s: %s", self._standing.state, self._standing.why)


class Totals:
    """The energy of today by agent: what is stored and what is not yet."""

    def __init__(
        self,
        days: EnergyDays,
        *,
        wall: Callable[[], float] = time.time,
        is_set: Callable[[], bool] = clock.is_set,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._days = days
        self._wall = wall
        self._is_set = is_set
        self._sleep = sleep
        self._fresh: dict[tuple[str, str, str], Spent] = {}
        self._booked = asyncio.Event()
        self._writing = asyncio.Lock()

    def book(self, agent: str, energy: Energy) -> None:
        key = (self._today(), agent, energy.source)
        self._fresh[key] = self._fresh.get(key, Spent()) + Spent(1, energy.joules)
        self._booked.set()

    async def keep(self) -> None:
        """Write what comes, a minute at a time, until cancelled."""
        while True:
            await self._booked.wait()
            await self._sleep(_WRITE_SECONDS)
            await self.write()

    async def write(self) -> None:
        """What is not stored yet; if the disk is full it waits for the next time."""
        async with self._writing:
            fresh, self._fresh = self._fresh, {}
            self._booked.clear()
            try:
                if fresh:
                    await self._days.add(fresh)
            except StoreUnavailable as error:
                log.warning("the day's energy cannot be written yet: %s", error.detail)
                for key, spent in fresh.items():
                    self._fresh[key] = self._fresh.get(key, Spent()) + spent
                self._booked.set()

    async def today(self) -> dict[str, Any]:
        """day, and by agent and source the requests and joules."""
        day = self._today()
        async with self._writing:  # or what is just being written would be in neither place, or in both
            sums = await self._days.of(day)
            fresh = dict(self._fresh)
        for (fresh_day, agent, source), spent in fresh.items():
            if fresh_day == day:
                sums[agent, source] = sums.get((agent, source), Spent()) + spent
        agents: dict[str, dict[str, Any]] = {}
        for (agent, source), spent in sorted(sums.items()):
            agents.setdefault(agent, {})[source] = {"requests": spent.requests, "joules": round(spent.joules, 3)}
        return {"day": day, "agents": agents}

    def _today(self) -> str:
        """A device that does not know the date yet has a day of its own."""
        return datetime.fromtimestamp(self._wall()).date().isoformat() if self._is_set() else "unknown"
