"""How much models may hold now: the configured budget, or what the device can really give, whichever is less.

`allowance` is pure; `Gauge` reads for it, at most once a second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from edged.domain.resources import Budget, Headroom

__all__ = ["Allowance", "Gauge", "Surroundings", "allowance"]

_FRESH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Allowance:
    """Bytes that models may hold together now, and what says so."""

    bytes: int
    by: Literal["configured", "cgroup", "available"] = "configured"


def allowance(budget: Budget, headroom: Headroom, held: int) -> Allowance:
    """`held` are the bytes that models really have taken: they are gone from the headroom already, and are theirs to keep."""
    rows: list[Allowance] = [Allowance(budget.memory_bytes)]
    if headroom.cgroup is not None:
        rows.append(Allowance(max(0, headroom.cgroup + held - budget.reserve), "cgroup"))
    if headroom.available is not None:
        rows.append(Allowance(max(0, headroom.available + held - budget.reserve), "available"))
    return min(rows, key=lambda row: row.bytes)


@contextmanager
def _in_the_open(name: str, pid: int, size: int) -> Iterator[Callable[[], int]]:
    yield lambda: 0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the pool asks of the device; by default there is no limit.

    `oom_kills` counts processes of the daemon's group that the kernel has killed. `around` holds (name, pid) to some bytes and
    yields such a count for it alone; None where the worker has to hold itself.
    """

    headroom: Callable[[], Headroom] = Headroom
    oom_kills: Callable[[], int] = lambda: 0
    around: Callable[[str, int, int], AbstractContextManager[Callable[[], int]]] | None = None


@dataclass(slots=True)
class Gauge:
    """The allowance as it was at most a second ago. `held` tells what models have taken; `clock` is monotonic seconds."""

    budget: Budget
    surroundings: Surroundings
    held: Callable[[], int]
    clock: Callable[[], float]
    _read: float = field(default=-math.inf)
    _last: Allowance = field(default=Allowance(0))

    def now(self) -> Allowance:
        at = self.clock()
        if at - self._read >= _FRESH_SECONDS:
            self._last = allowance(self.budget, self.surroundings.headroom(), self.held())
            self._read = at
        return self._last

    def report(self, held: int) -> dict[str, Any]:
        """{budget, allowed: what models may hold now, by: configured, cgroup or available, held, taken}, in bytes. `held` is what
        is reserved, `taken` what workers use of it, those of files apart."""
        now = self.now()
        return {
            "budget": self.budget.memory_bytes,
            "allowed": now.bytes,
            "by": now.by,
            "held": held,
            "taken": self.held(),
        }

    def stale(self) -> None:
        """What was read is not to be trusted any more: the kernel has spoken."""
        self._read = -math.inf
