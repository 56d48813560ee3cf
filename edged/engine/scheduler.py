"""Who is loaded, evicted and run next: a pure function from what is to what to do.

The rules, in this order. Jobs go by priority, then deadline, then arrival. A job whose model is ready and has room runs. A job
whose model is not there loads it, if need be in the place of idle models, cheapest to restore first. A job that must wait
for memory keeps what it waits for: less urgent jobs load nothing meanwhile, and a model that has to make room goes as soon
as it is idle, so that a stream of small work cannot starve it. A model that nobody wants is evicted when its keep_alive is over.

The budget is what was configured; less may be allowed for a while, when others take the device's memory. A model that fits the one
and not the other is waited for, without holding others up, and refused after `PATIENCE` seconds. Residents that hold more than is
allowed, and more than comes and goes, leave: idle ones at once, busy ones when they have finished.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Literal

from edged.domain.resources import Pressure

__all__ = ["Decision", "Evict", "Load", "Refuse", "Resident", "Run", "Wait", "Waiting", "decide"]


@dataclass(frozen=True, slots=True)
class Resident:
    """A model that holds memory. `since` is when it became idle; `load_seconds` is what it costs to bring it back.

    It runs `streams` jobs together; `ranks` are those of the jobs that it has. A more urgent one is taken beyond that, and
    the worker lets the least urgent wait.
    """

    name: str
    size: int
    state: Literal["loading", "idle", "busy", "leaving"]
    since: float = 0.0
    load_seconds: float = 0.0
    keep_alive: float = math.inf
    streams: int = 1
    ranks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that waits for a model of `size` bytes. `rank` 0 is the most urgent; `deadline` may be infinite."""

    job: int
    model: str
    size: int
    rank: int = 1
    deadline: float = math.inf
    arrived: float = 0.0


@dataclass(frozen=True, slots=True)
class Load:
    model: str


@dataclass(frozen=True, slots=True)
class Evict:
    model: str
    why: Literal["room", "keep_alive", "pressure", "budget"]


@dataclass(frozen=True, slots=True)
class Run:
    job: int
    model: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """`why`: "budget" (it never fits), "memory" (not now; look again at `until`), "quarantined" (until `until`)."""

    job: int
    why: Literal["budget", "memory", "quarantined"]
    until: float = math.inf


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing else will happen by itself before `until`."""

    until: float


Decision = Load | Evict | Run | Refuse | Wait

PATIENCE = 10.0  # seconds that a job waits for memory that others have
LOOK = 1.0  # seconds between two looks whether they have given it back
_LATER = 30.0  # seconds after which a refused one may ask again
_SLACK = 16  # this part of the budget comes and goes; nobody is evicted for it


def decide(
    residents: Sequence[Resident],
    waiting: Sequence[Waiting],
    budget: int,
    now: float,
    *,
    allowed: int | None = None,
    quarantined: Mapping[str, float] | None = None,
    pressure: Pressure = Pressure.NONE,
) -> list[Decision]:
    """All that can be decided now. Times are seconds of one clock, sizes bytes; without `allowed` all of the budget is. The
    last decision is always a `Wait`."""
    now_allowed = budget if allowed is None else min(allowed, budget)
    board = _Board(residents, now_allowed)
    out: list[Decision] = list(board.shrink(budget // _SLACK, {w.model for w in waiting}))
    look = math.inf
    for job in sorted(waiting, key=lambda w: (w.rank, w.deadline, w.arrived, w.job)):
        until = (quarantined or {}).get(job.model, -math.inf)
        if until > now:
            out.append(Refuse(job.job, "quarantined", until))
        elif job.size > budget:
            out.append(Refuse(job.job, "budget"))
        elif job.size > now_allowed and not board.has(job.model):
            if now >= job.arrived + PATIENCE:
                out.append(Refuse(job.job, "memory", now + _LATER))
            else:
                look = min(now + LOOK, job.arrived + PATIENCE, look)
        else:
            out += board.place(job, pressure)
    out += board.retire(now, pressure)
    out.append(Wait(min(look, board.next_expiry())))
    return out


class _Board:
    """The state while decisions are made: each changes what is left for the next."""

    def __init__(self, residents: Sequence[Resident], budget: int) -> None:
        self._by_name = {r.name: r for r in residents}
        self._idle = {r.name for r in residents if r.state == "idle"}
        self._ranks = {r.name: list(r.ranks) for r in residents if r.state in ("idle", "busy")}
        self._free = budget - sum(r.size for r in residents)
        self._loading: set[str] = set()
        self._blocked = False

    def has(self, model: str) -> bool:
        return model in self._by_name

    def shrink(self, slack: int, wanted: set[str]) -> list[Evict]:
        """Who leaves when residents hold more than is allowed. Who is wanted does some work first, or a model whose need was
        stated too low would be loaded and evicted for ever."""
        return self._clear(-self._free, "budget", wanted) if -self._free > slack else []

    def place(self, job: Waiting, pressure: Pressure) -> list[Decision]:
        if job.model in self._by_name:
            if not self._has_room(job):
                return []
            self._ranks[job.model].append(job.rank)
            self._idle.discard(job.model)
            return [Run(job.job, job.model)]
        if job.model in self._loading or self._blocked or pressure is Pressure.FULL:
            return []
        return self._load(job)

    def _has_room(self, job: Waiting) -> bool:
        streams, ranks = self._by_name[job.model].streams, self._ranks.get(job.model)
        if ranks is None:
            return False
        return len(ranks) < streams or (len(ranks) < 2 * streams and job.rank < max(ranks))

    def _load(self, job: Waiting) -> list[Decision]:
        if job.size <= self._free:
            self._free -= job.size
            self._loading.add(job.model)
            return [Load(job.model)]
        self._blocked = True  # memory comes back only when children have ended; then everything is decided anew
        return list(self._clear(job.size - self._free, "room"))

    def _clear(self, missing: int, why: Literal["room", "budget"], spared: Set[str] = frozenset()) -> list[Evict]:
        victims = [r for r in self._victims(missing) if r.name not in self._idle & spared]
        for victim in victims:  # a busy one gets nothing more to do, or it would never be idle
            self._ranks.pop(victim.name, None)
        evicted = [r.name for r in victims if r.name in self._idle]
        self._idle.difference_update(evicted)
        return [Evict(name, why) for name in evicted]

    def _victims(self, missing: int) -> list[Resident]:
        """Who makes room for `missing` bytes: those who leave anyway, then idle ones by cost to restore, then busy ones."""
        order = {"leaving": 0, "idle": 1, "busy": 2, "loading": 3}
        states = {
            r.name: "busy" if r.state == "idle" and r.name not in self._idle else r.state
            for r in self._by_name.values()
        }
        ranked = sorted(self._by_name.values(), key=lambda r: (order[states[r.name]], r.load_seconds, r.since))
        chosen: list[Resident] = []
        for resident in ranked:
            if missing <= 0:
                break
            chosen.append(resident)
            missing -= resident.size
        return chosen

    def retire(self, now: float, pressure: Pressure) -> list[Decision]:
        over = [self._by_name[n] for n in sorted(self._idle)]
        if pressure is Pressure.NONE:
            over = [r for r in over if now >= r.since + r.keep_alive]
        self._idle.difference_update(r.name for r in over)
        return [Evict(r.name, "keep_alive" if pressure is Pressure.NONE else "pressure") for r in over]

    def next_expiry(self) -> float:
        return min((self._by_name[n].since + self._by_name[n].keep_alive for n in self._idle), default=math.inf)
