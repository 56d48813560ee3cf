"""The scheduler as tables: what is, who waits -> what is decided."""

from __future__ import annotations

import math

import pytest

from edged.domain.resources import Pressure
from edged.engine.scheduler import Decision, Evict, Load, Refuse, Resident, Run, Wait, Waiting, decide

NOW = 100.0
FOREVER = Wait(math.inf)


def idle(name: str, size: int, since: float = 90.0, load: float = 1.0, keep: float = math.inf) -> Resident:
    return Resident(name, size, "idle", since, load, keep)


def busy(name: str, size: int) -> Resident:
    return Resident(name, size, "busy", ranks=(1,))


def job(number: float, model: str, size: int = 10, rank: int = 1, deadline: float = math.inf) -> Waiting:
    return Waiting(int(number), model, size, rank, deadline, arrived=number)


TABLE: list[tuple[str, list[Resident], list[Waiting], list[Decision]]] = [
    ("nothing", [], [], [FOREVER]),
    ("cold", [], [job(1, "a")], [Load("a"), FOREVER]),
    ("cold, two jobs, one load", [], [job(1, "a"), job(2, "a")], [Load("a"), FOREVER]),
    ("ready", [idle("a", 10)], [job(1, "a")], [Run(1, "a"), FOREVER]),
    ("busy", [busy("a", 10)], [job(1, "a")], [FOREVER]),
    (
        "several streams at once",
        [Resident("a", 10, "busy", streams=3, ranks=(1,))],
        [job(1, "a"), job(2, "a"), job(3, "a")],
        [Run(1, "a"), Run(2, "a"), FOREVER],
    ),
    (
        "a more urgent one is taken beyond the streams, at most as many again",
        [Resident("a", 10, "busy", streams=2, ranks=(1, 2))],
        [job(1, "a", rank=0), job(2, "a", rank=1), job(3, "a", rank=1), job(4, "a", rank=2)],
        [Run(1, "a"), Run(2, "a"), FOREVER],
    ),
    (
        "an equally urgent one is not",
        [Resident("a", 10, "busy", streams=1, ranks=(1,))],
        [job(1, "a"), job(2, "a", deadline=1)],
        [FOREVER],
    ),
    (
        "one that has to make room gets nothing more",
        [Resident("a", 60, "busy", streams=3, ranks=(1,))],
        [job(1, "b", 50, rank=0), job(2, "a")],
        [FOREVER],
    ),
    ("loading", [Resident("a", 10, "loading")], [job(1, "a")], [FOREVER]),
    ("leaving", [Resident("a", 10, "leaving")], [job(1, "a")], [FOREVER]),
    ("one at a time, in order of arrival", [idle("a", 10)], [job(2, "a"), job(1, "a")], [Run(1, "a"), FOREVER]),
    ("priority before arrival", [idle("a", 10)], [job(1, "a"), job(2, "a", rank=0)], [Run(2, "a"), FOREVER]),
    ("deadline before arrival", [idle("a", 10)], [job(1, "a"), job(2, "a", deadline=5)], [Run(2, "a"), FOREVER]),
    (
        "priority before deadline",
        [idle("a", 10)],
        [job(1, "a", deadline=5), job(2, "a", rank=0, deadline=9)],
        [Run(2, "a"), FOREVER],
    ),
    ("too big for the budget", [], [job(1, "a", size=101)], [Refuse(1, "budget"), FOREVER]),
    ("exactly the budget", [], [job(1, "a", size=100)], [Load("a"), FOREVER]),
    ("two fit", [], [job(1, "a", 50), job(2, "b", 50)], [Load("a"), Load("b"), FOREVER]),
    ("the second does not fit", [], [job(1, "a", 60), job(2, "b", 50)], [Load("a"), FOREVER]),
    ("an idle one makes room", [idle("a", 60)], [job(1, "b", 50)], [Evict("a", "room"), FOREVER]),
    ("wait for one that leaves", [Resident("a", 60, "leaving")], [job(1, "b", 50)], [FOREVER]),
    (
        "the cheapest to restore goes",
        [idle("a", 40, load=9.0), idle("b", 40, load=1.0)],
        [job(1, "c", 50)],
        [Evict("b", "room"), FOREVER],
    ),
    (
        "as many go as are needed",
        [idle("a", 40, load=9.0), idle("b", 40, load=1.0)],
        [job(1, "c", 90)],
        [Evict("b", "room"), Evict("a", "room"), FOREVER],
    ),
    ("a busy one is waited for", [busy("a", 60)], [job(1, "b", 50)], [FOREVER]),
    (
        "who is about to run is not evicted",
        [idle("a", 60)],
        [job(1, "a", 60), job(2, "b", 50)],
        [Run(1, "a"), FOREVER],
    ),
    (
        "a less urgent job does not run on what must make room",
        [idle("a", 60)],
        [job(1, "a", 60), job(2, "b", 50, rank=0)],
        [Evict("a", "room"), FOREVER],
    ),
    (
        "a less urgent job does not take the memory that is waited for",
        [busy("a", 60)],
        [job(1, "b", 50, rank=0), job(2, "c", 30)],
        [FOREVER],
    ),
    (
        "an idle one goes first, then the busy one is waited for",
        [busy("a", 60), idle("d", 10, load=9.0)],
        [job(1, "b", 40, rank=0), job(2, "d", 10)],
        [Evict("d", "room"), FOREVER],
    ),
    (
        "a bystander that is not needed for room goes on running",
        [Resident("a", 60, "leaving"), idle("d", 10)],
        [job(1, "b", 40, rank=0), job(2, "d", 10)],
        [Run(2, "d"), FOREVER],
    ),
    ("keep_alive is over", [idle("a", 10, since=90, keep=10)], [], [Evict("a", "keep_alive"), FOREVER]),
    ("keep_alive is not over", [idle("a", 10, since=90, keep=11)], [], [Wait(101.0)]),
    ("work before keep_alive", [idle("a", 10, since=0, keep=1)], [job(1, "a")], [Run(1, "a"), FOREVER]),
    ("the next expiry of several", [idle("a", 1, 95, keep=9), idle("b", 1, 99, keep=2)], [], [Wait(101.0)]),
]


@pytest.mark.parametrize(("residents", "waiting", "expected"), [row[1:] for row in TABLE], ids=[r[0] for r in TABLE])
def test_table(residents: list[Resident], waiting: list[Waiting], expected: list[Decision]) -> None:
    assert decide(residents, waiting, 100, NOW) == expected


# The budget is 100 and less is allowed; (name, allowed, residents, who waits, what is decided). Now is 100.0, job 91 came at 91.0.
SCARCE: list[tuple[str, int, list[Resident], list[Waiting], list[Decision]]] = [
    ("it fits what is allowed", 50, [], [job(91, "a", 50)], [Load("a"), FOREVER]),
    ("it would fit the budget: wait", 50, [], [job(95, "a", 51)], [Wait(101.0)]),
    ("the last look is at the end of its patience", 50, [], [job(90.5, "a", 51)], [Wait(100.5)]),
    ("it waited long enough", 50, [], [job(90, "a", 51)], [Refuse(90, "memory", 130.0), FOREVER]),
    ("it never fits: at once", 50, [], [job(99, "a", 101)], [Refuse(99, "budget"), FOREVER]),
    ("more is allowed than the budget", 500, [], [job(99, "a", 101)], [Refuse(99, "budget"), FOREVER]),
    (
        "who waits for others holds nobody up",
        50,
        [],
        [job(95, "a", 60, rank=0), job(96, "b", 50)],
        [Load("b"), Wait(101.0)],
    ),
    ("and evicts nobody", 50, [idle("b", 50)], [job(95, "a", 60, rank=0)], [Wait(101.0)]),
    ("room is made within what is allowed", 50, [idle("b", 30)], [job(95, "a", 40)], [Evict("b", "room"), FOREVER]),
    ("what is there runs whatever it is", 94, [idle("a", 99)], [job(95, "a", 99)], [Run(95, "a"), FOREVER]),
    ("idle ones leave", 50, [idle("a", 60)], [], [Evict("a", "budget"), FOREVER]),
    (
        "the cheapest to restore, and no more than needed",
        50,
        [idle("a", 40, load=9), idle("b", 40)],
        [],
        [Evict("b", "budget"), FOREVER],
    ),
    ("one that leaves is enough", 50, [Resident("a", 40, "leaving"), idle("b", 40)], [], [FOREVER]),
    ("busy ones finish", 50, [busy("a", 60)], [], [FOREVER]),
    ("and get nothing more", 50, [Resident("a", 60, "busy", streams=3, ranks=(1,))], [job(95, "a", 60)], [FOREVER]),
    (
        "an idle one leaves before the busy one has to",
        50,
        [busy("a", 50), idle("b", 40)],
        [job(95, "a", 50)],
        [Evict("b", "budget"), FOREVER],
    ),
    ("one that is wanted works first", 50, [idle("a", 60)], [job(95, "a", 60)], [Run(95, "a"), FOREVER]),
    ("what comes and goes evicts nobody", 94, [idle("a", 100)], [], [FOREVER]),
    ("a little more does", 93, [idle("a", 100)], [], [Evict("a", "budget"), FOREVER]),
    ("nothing is allowed", 0, [idle("a", 10)], [job(95, "b", 1)], [Evict("a", "budget"), Wait(101.0)]),
]


@pytest.mark.parametrize(
    ("allowed", "residents", "waiting", "expected"), [row[1:] for row in SCARCE], ids=[row[0] for row in SCARCE]
)
def test_scarce(allowed: int, residents: list[Resident], waiting: list[Waiting], expected: list[Decision]) -> None:
    assert decide(residents, waiting, 100, NOW, allowed=allowed) == expected


def test_quarantined_models_are_refused_until_their_rest_is_over() -> None:
    assert decide([], [job(1, "a")], 100, NOW, quarantined={"a": 130.0})[0] == Refuse(1, "quarantined", 130.0)
    assert decide([], [job(1, "a")], 100, NOW, quarantined={"a": 100.0})[0] == Load("a")
    assert decide([], [job(1, "b")], 100, NOW, quarantined={"a": 130.0})[0] == Load("b")


def test_pressure_evicts_idle_models_and_full_pressure_loads_none() -> None:
    residents = [idle("a", 10), busy("b", 10)]
    assert decide(residents, [], 100, NOW, pressure=Pressure.SOME) == [Evict("a", "pressure"), FOREVER]
    assert decide(residents, [job(1, "c")], 100, NOW, pressure=Pressure.SOME)[0] == Load("c")
    assert decide(residents, [job(1, "c")], 100, NOW, pressure=Pressure.FULL) == [Evict("a", "pressure"), FOREVER]


def test_what_is_loaded_together_never_exceeds_the_budget() -> None:
    sizes = {f"m{i}": 7 * i % 50 + 1 for i in range(20)}
    waiting = [job(i, name, size) for i, (name, size) in enumerate(sizes.items())]
    loads = [d.model for d in decide([busy("x", 33)], waiting, 100, NOW) if isinstance(d, Load)]
    assert loads
    assert sum(sizes[name] for name in loads) + 33 <= 100
