"""The governor as tables: thresholds, the way back, least times, and whole days of devices as traces."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sysfs_trees import FANLESS, LAPTOP, NUC, PI, PI_UPS, VM, grow

from edged.device.governor import Standing, judge
from edged.device.power import read_power
from edged.domain.power import Heat, PowerPlan, PowerReading, PowerState

PLAN = PowerPlan()
MAINS, BATTERY, SAVER, HOT, CRITICAL = PowerState
ON, OFF = PowerReading(mains=True, battery=True), PowerReading(mains=False, battery=True, discharging=True)


def cpu(celsius: float, **limits: float) -> PowerReading:
    return PowerReading(mains=True, heats=(Heat("cpu", celsius, **limits),))


def on_battery(percent: float | None, *heats: Heat) -> PowerReading:
    return PowerReading(mains=False, battery=True, discharging=True, percent=percent, heats=heats)


@pytest.mark.parametrize(
    ("reading", "state", "told"),
    [
        (PowerReading(), MAINS, "nothing here tells of power"),
        (ON, MAINS, "a supply is connected"),
        (OFF, BATTERY, "charge unknown"),
        (on_battery(31), BATTERY, "31 %"),
        (on_battery(30), SAVER, "30 %"),
        (on_battery(10.4), SAVER, "10 %"),
        (on_battery(10), CRITICAL, "10 %"),
        (PowerReading(mains=True, battery=True, percent=3), MAINS, "connected"),  # it is being filled
        (PowerReading(mains=True, battery=True, percent=3, discharging=True), CRITICAL, "3 %"),  # too weak a charger
        (cpu(84), MAINS, "connected"),
        (cpu(85), HOT, "cpu has 85"),
        (cpu(70, passive=68.0), HOT, "hot is 68"),
        (cpu(105), CRITICAL, "critical is 105"),
        (cpu(94, critical=98.0), CRITICAL, "critical is 93"),
        (PowerReading(mains=True, throttled=True), HOT, "slows"),
        (PowerReading(undervolted=True, flags=True), SAVER, "under-voltage"),
        (on_battery(5, Heat("cpu", 90)), CRITICAL, "on battery"),
        (on_battery(20, Heat("cpu", 90)), HOT, "cpu"),
        (PowerReading(battery=True, blind=True), MAINS, "assumed"),
    ],
)
def test_thresholds(reading: PowerReading, state: PowerState, told: str) -> None:
    standing = judge(reading, None, PLAN, 5.0)
    assert (standing.state, standing.since) == (state, 5.0)
    assert told in standing.why


@pytest.mark.parametrize(
    ("reading", "assumed"),
    [(PowerReading(), True), (ON, False), (OFF, False), (PowerReading(discharging=True, battery=True), False)],
)
def test_what_nobody_told_is_called_assumed(reading: PowerReading, assumed: bool) -> None:
    assert judge(reading, None, PLAN, 0.0).assumed is assumed


@pytest.mark.parametrize(
    ("before", "reading", "state"),
    [
        (on_battery(30), on_battery(34), SAVER),
        (on_battery(30), on_battery(36), BATTERY),
        (on_battery(9), on_battery(14), CRITICAL),
        (on_battery(9), on_battery(16), SAVER),
        (on_battery(9), on_battery(34), SAVER),
        (on_battery(40), on_battery(34), BATTERY),
        (cpu(86), cpu(81), HOT),
        (cpu(86), cpu(79), MAINS),
        (cpu(106), cpu(101), CRITICAL),
        (cpu(106), cpu(99), HOT),
        (cpu(80), cpu(82), MAINS),
        (on_battery(9), cpu(82), MAINS),  # it never was hot: the charge's state is no reason
        (on_battery(40, Heat("cpu", 90)), on_battery(33), BATTERY),  # and never was low
    ],
)
def test_the_way_back_is_longer(before: PowerReading, reading: PowerReading, state: PowerState) -> None:
    first = judge(before, None, PLAN, 0.0)
    assert judge(reading, first, PLAN, PLAN.dwell_seconds).state is state


def test_better_waits_and_worse_does_not() -> None:
    low = judge(on_battery(5), None, PLAN, 100.0)
    held = judge(ON, low, PLAN, 159.9)
    assert (held.state, held.since, held.why) == (CRITICAL, 100.0, low.why)
    assert judge(ON, held, PLAN, 160.0).state is MAINS
    assert judge(on_battery(50), judge(ON, None, PLAN, 0.0), PLAN, 0.1).state is BATTERY


def test_the_time_of_a_state_runs_from_its_beginning_and_its_reason_is_of_now() -> None:
    first = judge(on_battery(60), None, PLAN, 1.0)
    second = judge(on_battery(50), first, PLAN, 2.0)
    assert (second.since, second.why) == (1.0, "on battery with 50 %")


def test_a_battery_that_falls_silent_is_as_it_was() -> None:
    silent = PowerReading(battery=True, blind=True, mains=False, discharging=True)
    low = judge(on_battery(5), None, PLAN, 0.0)
    assert judge(silent, low, PLAN, 1000.0).state is CRITICAL
    plugged = PowerReading(battery=True, blind=True, mains=True)
    assert judge(plugged, low, PLAN, 1000.0).state is MAINS


def test_a_loose_plug_does_not_waver() -> None:
    standing: Standing | None = None
    seen = []
    for second in range(0, 120, 10):
        standing = judge(ON if second % 20 else on_battery(50), standing, PLAN, float(second))
        seen.append(standing.state)
    assert seen[:6] == [BATTERY] * 6
    changes = sum(a is not b for a, b in pairwise(seen))
    assert changes <= 2


AC, BAT = "class__power_supply__AC__online", "class__power_supply__BAT0__"
LOW: dict[str, Any] = {f"{BAT}capacity": 9}
Trace = list[tuple[float, dict[str, Any], PowerState]]
TRACES: list[tuple[str, Any, Trace]] = [
    (
        "laptop",
        LAPTOP,
        [
            (0, {}, BATTERY),
            (3600, {f"{BAT}capacity": 30}, SAVER),
            (5000, LOW, CRITICAL),
            (5010, {AC: 1, f"{BAT}status": "Charging"}, CRITICAL),
            (5060, {}, MAINS),
            (5070, {"class__thermal__thermal_zone0__temp": 91_000}, HOT),
            (5131, {"class__thermal__thermal_zone0__temp": 70_000}, MAINS),
        ],
    ),
    ("pi", PI, [(0, {}, MAINS), (60, {"class__hwmon__hwmon1__in0_lcrit_alarm": 1}, SAVER)]),
    (
        "pi with a UPS",
        PI_UPS,
        [
            (0, {}, MAINS),
            (60, {"class__power_supply__charger__online": 0}, BATTERY),
            (120, {"class__power_supply__battery__capacity": 22}, SAVER),
            (130, {"class__power_supply__charger__online": None}, SAVER),  # the hat is pulled with both of its supplies
            (130, {"class__power_supply__battery__type": None, "class__power_supply__charger__type": None}, SAVER),
            (180, {}, MAINS),
        ],
    ),
    ("nuc", NUC, [(0, {}, MAINS), (60, {"class__hwmon__hwmon10__temp1_input": 96_000}, HOT)]),
    ("fanless", FANLESS, [(0, {}, MAINS)]),
    ("vm", VM, [(0, {}, MAINS)]),
]


@pytest.mark.parametrize(("tree", "trace"), [t[1:] for t in TRACES], ids=[t[0] for t in TRACES])
def test_traces(tmp_path: Path, tree: Any, trace: Trace) -> None:
    grow(tmp_path, tree)
    standing: Standing | None = None
    for at, changes, state in trace:
        standing = judge(read_power(grow(tmp_path, {}, **changes)), standing, PLAN, at)
        assert standing.state is state, (at, standing)
