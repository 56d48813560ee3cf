"""What models may hold now, as a table; and how often it is looked at."""

from __future__ import annotations

import pytest

from edged.domain.resources import Budget, Headroom
from edged.engine.allowance import Allowance, Gauge, Surroundings, allowance

# (name, left in the group, available, held by models, what is allowed); budget 1000, reserve 100
TABLE: list[tuple[str, int | None, int | None, int, Allowance]] = [
    ("nothing is told", None, None, 0, Allowance(1000)),
    ("plenty", 5000, 5000, 0, Allowance(1000)),
    ("just enough", 1100, 1100, 0, Allowance(1000)),
    ("the group is tight", 600, 5000, 0, Allowance(500, "cgroup")),
    ("the device is tight", 5000, 400, 0, Allowance(300, "available")),
    ("the device is tighter", 600, 400, 0, Allowance(300, "available")),
    ("no group", None, 400, 0, Allowance(300, "available")),
    ("no meminfo", 400, None, 0, Allowance(300, "cgroup")),
    ("what models hold is theirs", 600, 5000, 450, Allowance(950, "cgroup")),
    ("and never more than the budget", 600, 5000, 900, Allowance(1000)),
    ("they alone fill the group", 0, 5000, 700, Allowance(600, "cgroup")),
    ("the group's limit is passed", -50, 5000, 700, Allowance(550, "cgroup")),
    ("not even the reserve is left", 50, 5000, 0, Allowance(0, "cgroup")),
]


@pytest.mark.parametrize(("cgroup", "available", "held", "expected"), [r[1:] for r in TABLE], ids=[r[0] for r in TABLE])
def test_table(cgroup: int | None, available: int | None, held: int, expected: Allowance) -> None:
    assert allowance(Budget(1000, reserve=100), Headroom(cgroup, available), held) == expected


def test_it_is_read_once_a_second_or_when_the_kernel_has_spoken() -> None:
    left, now = [500, 400, 300], [10.0]
    around = Surroundings(headroom=lambda: Headroom(available=left.pop(0)))
    gauge = Gauge(Budget(1000), around, lambda: 0, lambda: now[0])
    assert gauge.now().bytes == 500
    now[0] = 10.9
    assert gauge.now().bytes == 500
    now[0] = 11.0
    assert gauge.now().bytes == 400
    gauge.stale()
    assert gauge.report(7) == {"budget": 1000, "allowed": 300, "by": "available", "held": 7, "taken": 0}
