"""Pressure: the kernel's own word where it can be had, and the rules of its beginning and its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import sys
from pathlib import Path

import pytest

from edged.device.cgroups import Cgroup
from edged.device.memory import Memory
from edged.device.pressure import TRIGGERS, PressureWatch, available, pressure_files
from edged.domain.resources import Pressure

from .small_group import small_group

MIB = 1 << 20
PSI = Path("/proc/pressure/memory")
real = pytest.mark.skipif(not os.access(PSI, os.W_OK), reason="this kernel does not tell of memory pressure")


def unexpected(level: Pressure) -> None:
    pytest.fail(f"told of {level}")


def test_available(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  1024 kB\nMemAvailable:     512 kB\n")
    assert available(tmp_path) == 512 << 10
    (tmp_path / "meminfo").write_text("MemTotal:  1024 kB\n")
    assert available(tmp_path) is None
    assert available(tmp_path / "none") is None
    assert (available() or 0) > MIB


def test_the_own_group_is_asked_first(tmp_path: Path) -> None:
    whole = tmp_path / "pressure/memory"
    assert pressure_files(Cgroup(2, (Path("/a"),)), tmp_path) == [Path("/a/memory.pressure"), whole]
    assert pressure_files(Cgroup(1, (Path("/a"),)), tmp_path) == [whole]
    assert pressure_files(None, tmp_path) == [whole]


async def test_without_psi_nothing_is_told(tmp_path: Path) -> None:
    with PressureWatch(unexpected, [tmp_path / "none", tmp_path / "neither"]) as watch:
        assert watch.source is None


def test_the_triggers_may_be_set_by_anybody() -> None:
    for trigger in TRIGGERS.values():
        stall, window = map(int, trigger.split()[1:])
        assert 0 < stall < window
        assert window % 2_000_000 == 0


@real
async def test_a_quiet_trigger_does_not_spin() -> None:
    told: list[Pressure] = []
    triggers = {Pressure.SOME: "some 1999999 2000000", Pressure.FULL: "full 1999999 2000000"}
    with PressureWatch(told.append, [PSI], triggers=triggers) as watch:
        assert watch.source == PSI
        await asyncio.sleep(1.0)
        assert (
            watch.wakeups <= 2
        )  # the kernel may fire at nothing much; a spinning loop would wake up thousands of times
        assert told == []


@real
async def test_the_descriptor_itself_would_spin() -> None:
    """Why there is an epoll of its own: the event loop would find the trigger readable for ever."""
    fd = os.open(PSI, os.O_RDWR | os.O_NONBLOCK)
    try:
        os.write(fd, b"some 1999999 2000000\n")
        with select.epoll() as readable:
            readable.register(fd, select.EPOLLIN)
            assert readable.poll(0)
        with select.epoll() as urgent:
            urgent.register(fd, select.EPOLLPRI)
            assert not urgent.poll(0)
    finally:
        os.close(fd)


A_LITTLE = """
import os, pathlib, sys
pathlib.Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
with open(sys.argv[2], "wb") as file:
    for _ in range(30):
        file.write(os.urandom(1 << 20))
    os.fsync(file.fileno())
"""


@real
async def test_a_little_is_not_believed_to_be_much(tmp_path: Path) -> None:
    """Some milliseconds of stall make the kernel fire triggers of two seconds."""
    triggers = {Pressure.SOME: "some 1999999 2000000", Pressure.FULL: "full 1999999 2000000"}
    with small_group(16 * MIB) as group, PressureWatch(unexpected, [PSI], triggers=triggers) as watch:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", A_LITTLE, str(group), str(tmp_path / "pages")
        )
        assert await child.wait() == 0
        await asyncio.sleep(0.5)
        assert watch.now is Pressure.NONE


def test_a_trigger_is_believed_by_the_totals(tmp_path: Path) -> None:
    """A plain file in the kernel's place: what it says is in our hand, and it takes any trigger."""
    file = tmp_path / "memory"

    def say(some: int, full: int) -> None:
        rows = (f"{kind} avg10=0.00 avg60=0.00 avg300=0.00 total={n}\n" for kind, n in (("some", some), ("full", full)))
        file.write_text("".join(rows))

    file.write_text("")
    watch = PressureWatch(unexpected, [], triggers=TRIGGERS)
    assert watch._open(file)
    some, full = watch._levels
    try:
        steps = [(5_000, 700), (105_000, 50_700), (150_000, 100_699), (260_000, 100_700)]
        believed = []
        for step in steps:
            say(*step)
            believed.append((watch._is_so(some), watch._is_so(full)))
    finally:
        watch._close()
    assert believed == [(False, False), (True, True), (False, False), (True, False)]


# more of a file than the group may hold, again and again: the kernel takes pages back that are wanted at once
THRASH = """
import mmap, os, pathlib, sys, time
pathlib.Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
with open(sys.argv[2], "wb") as file:  # pages belong to the group of who had them first
    for _ in range(40):
        file.write(os.urandom(1 << 20))
    os.fsync(file.fileno())
with open(sys.argv[2], "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as pages:
    until = time.monotonic() + 12
    while time.monotonic() < until:
        sum(pages[at] for at in range(0, len(pages), 4096))
"""


@real
async def test_real_pressure_is_told_and_its_end(tmp_path: Path) -> None:
    told: asyncio.Queue[Pressure] = asyncio.Queue()
    file = tmp_path / "pages"
    with small_group(16 * MIB) as group, PressureWatch(told.put_nowait, [PSI], quiet=4.5) as watch:
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", THRASH, str(group), str(file))
        try:
            assert await asyncio.wait_for(told.get(), 9) is not Pressure.NONE
            assert watch.now is not Pressure.NONE
        finally:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
        async with asyncio.timeout(10):
            while await told.get() is not Pressure.NONE:
                pass
        assert 1 <= watch.wakeups < 20


async def test_levels_rise_fall_and_end() -> None:
    """What the kernel would say is said here; the clock is the loop's."""
    told: list[Pressure] = []
    ended = asyncio.Event()

    def note(level: Pressure) -> None:
        told.append(level)
        if level is Pressure.FULL:
            asyncio.get_running_loop().call_later(0.1, watch._fired, Pressure.SOME)
        elif level is Pressure.NONE:
            ended.set()

    with PressureWatch(note, [], quiet=0.2) as watch:
        watch._fired(Pressure.SOME)
        watch._fired(Pressure.FULL)
        await asyncio.wait_for(ended.wait(), 5)
    assert told == [Pressure.SOME, Pressure.FULL, Pressure.SOME, Pressure.NONE]


async def test_the_report(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemAvailable:     512 kB\n")
    (tmp_path / "vmstat").write_text("pgfault 1\noom_kill 4\n")
    memory = Memory(walls=False, proc=tmp_path)
    with memory.watch(unexpected):
        told = memory.report()
    assert (told["pressure"], told["available"], told["limit"], told["oom_kills"]) == ("unknown", 512 << 10, None, 4)
    assert told["walls"] == "off"
    assert (memory.headroom().cgroup, memory.headroom().available) == (None, 512 << 10)
    assert memory.around is None
