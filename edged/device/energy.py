"""What requests cost: the CPU time of the workers that served each, and its share of what a meter of the device counted meanwhile.

A worker's CPU time is split among those who use it at the same time. The meter is RAPL where it can be read, else a battery that
discharges, by the watts of the last look; without either, joules are CPU time times a stated figure, and are called estimated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from edged.device.rapl import Rapl
from edged.domain.power import Energy, PowerPlan

__all__ = ["DAEMON", "Bill", "Billing", "Gauge", "busy_seconds", "cpu_seconds"]

DAEMON: Final = "daemon"
_FRESH_SECONDS: Final = 30.0  # three looks at a battery
_TICK: Final = 0.01  # of /proc/stat: USER_HZ is 100 on every Linux that Python runs on


@dataclass(slots=True, eq=False)
class Bill:
    """One request's account. `energy` is there once it is closed."""

    agent: str
    cpu_seconds: float = 0.0
    energy: Energy | None = None


@dataclass(slots=True)
class _Worker:
    """Who uses a worker now, and its processes' CPU seconds at the last look."""

    users: list[Bill] = field(default_factory=list)
    seen: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Mark:
    at: float
    meter: str | None
    joules: float
    busy: float


_open: ContextVar[Bill | None] = ContextVar("bill", default=None)


class Gauge:
    """The device's meter as one rising number of joules. `looked` is told what each look at the battery brought."""

    def __init__(self, root: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._rapl = Rapl(root)
        self._clock = clock
        self._joules = 0.0
        self._watts: float | None = None
        self._at = clock()

    def looked(self, watts: float | None) -> None:
        """`watts` of a discharging battery, else None."""
        counted = self._battery()
        self._joules, self._watts, self._at = counted or self._joules, watts, self._clock()

    def joules(self) -> tuple[str | None, float]:
        """The meter that counts now, or None, and its joules since some moment: only those of one meter can be compared."""
        for meter, counted in (("rapl", self._rapl.joules()), ("battery", self._battery())):
            if counted is not None:
                return meter, counted
        return None, 0.0

    def _battery(self) -> float | None:
        seconds = self._clock() - self._at
        return None if self._watts is None or seconds > _FRESH_SECONDS else self._joules + self._watts * seconds


class Billing:
    """Writes the bills of requests. `pids` gives the processes of a worker; `booked` hears what each came to, by agent."""

    def __init__(
        self,
        gauge: Gauge,
        plan: PowerPlan,
        pids: Callable[[str], Iterable[int]],
        booked: Callable[[str, Energy], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[int], float | None] | None = None,
        busy: Callable[[], float] | None = None,
    ) -> None:
        self._gauge = gauge
        self._plan = plan
        self._pids = pids
        self._booked = booked
        self._clock = clock
        self._cpu = cpu or cpu_seconds
        self._busy = busy or busy_seconds
        self._workers: dict[str, _Worker] = {}

    @contextmanager
    def request(self, agent: str) -> Iterator[Bill]:
        """What is done inside is on this bill; it is booked in the end, however that is."""
        bill, began = Bill(agent), self._mark()
        token = _open.set(bill)
        try:
            with self.using(DAEMON):
                yield bill
        finally:
            _open.reset(token)
            bill.energy = self._cost(bill, began, self._mark())
            self._booked(agent, bill.energy)

    @contextmanager
    def using(self, worker: str) -> Iterator[None]:
        """The worker's CPU time is meanwhile on the bill of the request that this is done for, if it is one."""
        bill = _open.get()
        if bill is None:
            yield
            return
        entry = self._workers.setdefault(worker, _Worker())
        self._split(worker, entry)
        entry.users.append(bill)
        try:
            yield
        finally:
            self._split(worker, entry)
            entry.users.remove(bill)

    def _split(self, worker: str, entry: _Worker) -> None:
        """What it took since the last look, in equal parts. A process that was not there then began for those who use it now."""
        now = {pid: spent for pid in self._pids(worker) if (spent := self._cpu(pid)) is not None}
        taken = sum(max(0.0, spent - entry.seen.get(pid, 0.0)) for pid, spent in now.items())
        for bill in entry.users:
            bill.cpu_seconds += taken / len(entry.users)
        entry.seen = now

    def _mark(self) -> _Mark:
        return _Mark(self._clock(), *self._gauge.joules(), self._busy())

    def _cost(self, bill: Bill, began: _Mark, ended: _Mark) -> Energy:
        busy = max(ended.busy - began.busy, bill.cpu_seconds)
        share = bill.cpu_seconds / busy if busy > 0 else 0.0
        if began.meter is not None and began.meter == ended.meter:
            return Energy(max(0.0, ended.joules - began.joules) * share, "measured")
        idle = self._plan.idle_watts * (ended.at - began.at) * share
        return Energy(self._plan.watts_per_core * bill.cpu_seconds + idle, "estimated")


def cpu_seconds(pid: int) -> float | None:
    """CPU time of all threads of a process, to the nanosecond; None when it has ended.

    The clock's number is the kernel's (`clock_getcpuclockid(3)`): one call, where /proc has a file of hundredths to parse.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return None


def busy_seconds(stat: Path = Path("/proc/stat")) -> float:
    """CPU seconds that this machine worked, all cores together; 0 where it cannot be told. Source: the first line."""
    try:
        with stat.open("rb") as file:
            told = file.readline(512).split()
        user, nice, system, _, _, irq, softirq = (int(field) for field in told[1:8])
    except (OSError, ValueError):
        return 0.0
    return (user + nice + system + irq + softirq) * _TICK
