"""Energy: whose CPU time, which meter, and what is called measured."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Literal, cast

import pytest
from sysfs_trees import NUC, VM, grow

from edged.device.energy import DAEMON, Billing, Gauge, busy_seconds, cpu_seconds
from edged.device.rapl import Rapl
from edged.domain.power import Energy, PowerPlan

RAPL = "class/powercap/intel-rapl:0"


def about(joules: float, source: Literal["measured", "estimated"]) -> Energy:
    return Energy(cast(float, pytest.approx(joules)), source)


class Machine:
    """Processes and clocks that go as a test says. The daemon's pid is 1; `pids` are by worker."""

    def __init__(self, root: Path, **plan: float) -> None:
        self.now = 0.0
        self.busy = 0.0
        self.cpu: dict[int, float] = {1: 5.0}
        self.workers: dict[str, list[int]] = {DAEMON: [1]}
        self.booked: list[tuple[str, Energy]] = []
        self.gauge = Gauge(root, lambda: self.now)
        self.bills = Billing(
            self.gauge,
            PowerPlan(watts_per_core=2.0, **plan),  # type: ignore[arg-type]
            self.pids,
            lambda agent, energy: self.booked.append((agent, energy)),
            clock=lambda: self.now,
            cpu=lambda pid: self.cpu.get(pid),
            busy=lambda: self.busy,
        )

    def pids(self, worker: str) -> Iterable[int]:
        return self.workers.get(worker, [])

    def work(self, pid: int, seconds: float) -> None:
        self.cpu[pid] = self.cpu.get(pid, 0.0) + seconds
        self.busy += seconds


@pytest.fixture
def bare(tmp_path: Path) -> Machine:
    return Machine(grow(tmp_path, VM))


def test_without_a_meter_it_is_estimated_from_cpu_time(bare: Machine) -> None:
    bare.workers["model"], bare.cpu[7] = [7], 100.0
    with bare.bills.request("kiosk") as bill, bare.bills.using("model"):
        bare.work(7, 3.0)
        bare.work(1, 0.5)
    assert bill.cpu_seconds == pytest.approx(3.5)
    assert bill.energy == about(7.0, "estimated")
    assert bare.booked == [("kiosk", bill.energy)]


def test_idle_power_is_borne_by_share(tmp_path: Path) -> None:
    machine = Machine(grow(tmp_path, VM), idle_watts=3.0)
    with machine.bills.request("kiosk") as bill:
        machine.now += 10.0
        machine.work(1, 1.0)
        machine.busy += 3.0  # somebody else's
    assert bill.energy == about(2.0 + 3.0 * 10.0 / 4, "estimated")


def test_what_a_worker_does_before_and_after_is_not_on_the_bill(bare: Machine) -> None:
    bare.workers["model"] = [7]
    bare.work(7, 50.0)
    with bare.bills.request("a") as bill:
        bare.work(7, 20.0)
        with bare.bills.using("model"):
            bare.work(7, 1.0)
        bare.work(7, 20.0)
    assert bill.cpu_seconds == pytest.approx(1.0)


def test_a_worker_that_starts_for_a_request_began_for_it(bare: Machine) -> None:
    with bare.bills.request("a") as bill, bare.bills.using("model"):
        bare.workers["model"] = [8]
        bare.work(8, 0.75)
    assert bill.cpu_seconds == pytest.approx(0.75)


def test_a_worker_that_crashes_makes_no_negative_time(bare: Machine) -> None:
    bare.workers["model"], bare.cpu[7] = [7], 100.0
    with bare.bills.request("a") as bill, bare.bills.using("model"):
        del bare.cpu[7]
        bare.workers["model"] = [9]
        bare.work(9, 0.25)
    assert bill.cpu_seconds == pytest.approx(0.25)


async def test_those_who_share_a_worker_share_its_time(bare: Machine) -> None:
    bare.workers["model"] = [7]
    joined, over = asyncio.Event(), asyncio.Event()
    shares: dict[str, float] = {}

    async def long() -> None:
        with bare.bills.request("long") as bill, bare.bills.using("model"):
            bare.work(7, 2.0)  # alone
            joined.set()
            await over.wait()
            bare.work(7, 4.0)  # alone again
        shares["long"] = bill.cpu_seconds

    async def short() -> None:
        await joined.wait()
        with bare.bills.request("short") as bill, bare.bills.using("model"):
            bare.work(7, 1.0)  # together
        shares["short"] = bill.cpu_seconds
        over.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(long())
        group.create_task(short())
    assert shares == {"long": pytest.approx(6.5), "short": pytest.approx(0.5)}


def test_work_for_nobody_is_on_no_bill(bare: Machine) -> None:
    with bare.bills.using("model"):
        bare.work(7, 1.0)
    assert bare.booked == []


def test_a_request_that_fails_is_booked(bare: Machine) -> None:
    with suppress(RuntimeError), bare.bills.request("a"):
        bare.work(1, 1.0)
        raise RuntimeError
    assert bare.booked == [("a", about(2.0, "estimated"))]


def test_a_counter_is_measured_and_shared_by_cpu_time(tmp_path: Path) -> None:
    machine = Machine(grow(tmp_path, NUC))
    with machine.bills.request("a") as bill:
        machine.work(1, 1.0)
        machine.busy += 1.0
        grow(tmp_path, {f"{RAPL}/energy_uj": 262_143_300_000, f"{RAPL}:1/energy_uj": 1_700_000})
    assert bill.energy == about((0.3 + 0.7) / 2, "measured")


def test_a_counter_that_went_round(tmp_path: Path) -> None:
    rapl = Rapl(grow(tmp_path, NUC))
    assert rapl.joules() == 0.0
    grow(tmp_path, {f"{RAPL}/energy_uj": 671_150})
    assert rapl.joules() == pytest.approx(1.0)
    grow(tmp_path, {f"{RAPL}/energy_uj": 1_671_150})
    assert rapl.joules() == pytest.approx(2.0)
    (tmp_path / f"{RAPL}/energy_uj").unlink()
    assert rapl.joules() is None
    grow(tmp_path, {f"{RAPL}/energy_uj": 0})
    assert rapl.joules() == pytest.approx(2.0)  # what went by unseen is unknown, and not made up


def test_a_discharging_battery_measures_while_its_last_look_is_fresh(bare: Machine) -> None:
    bare.gauge.looked(8.0)
    with bare.bills.request("a") as bill:
        bare.now += 2.0
        bare.gauge.looked(4.0)
        bare.now += 5.0
        bare.work(1, 1.0)
    assert bill.energy == about(8.0 * 2 + 4.0 * 5, "measured")
    with bare.bills.request("a") as bill:
        bare.now += 31.0
        bare.work(1, 1.0)
    assert bill.energy == about(2.0, "estimated")


def test_plugged_in_meanwhile_it_is_estimated(bare: Machine) -> None:
    bare.gauge.looked(8.0)
    with bare.bills.request("a") as bill:
        bare.now += 2.0
        bare.work(1, 1.0)
        bare.gauge.looked(None)
    assert bill.energy == about(2.0, "estimated")


def test_meters_are_not_mixed(tmp_path: Path) -> None:
    machine = Machine(grow(tmp_path, NUC))
    machine.gauge.looked(8.0)
    with machine.bills.request("a") as bill:
        machine.now += 2.0
        machine.work(1, 1.0)
        (tmp_path / f"{RAPL}/energy_uj").unlink()
    assert bill.energy == about(2.0, "estimated")


def test_cpu_time_of_a_real_process() -> None:
    command = "import sys, time\nwhile time.process_time() < 0.2: pass\nprint(flush=True)\nsys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        spent = cpu_seconds(child.pid)
        child.communicate()
    assert spent is not None
    assert 0.2 <= spent < 1.0
    assert cpu_seconds(child.pid) is None  # it has ended
    assert cpu_seconds(os.getpid()) == pytest.approx(time.process_time(), abs=0.05)


def test_busy_seconds_of_the_machine(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 20 30 9999 50 6 7 40 0 0\ncpu0 1 1\n")
    assert busy_seconds(stat) == pytest.approx(1.63)
    for text in ("", "cpu\n", "cpu a b c d e f g\n"):
        stat.write_text(text)
        assert busy_seconds(stat) == 0.0
    assert busy_seconds(tmp_path / "absent") == 0.0
    assert busy_seconds() > 0
