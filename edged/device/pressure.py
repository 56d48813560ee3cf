"""Memory of the device, and the kernel's word that it runs short (PSI).

The rule: a trigger's descriptor is never handed to the event loop. It has to be waited for with EPOLLPRI, which `add_reader`
does not do, and it counts as readable at all times, so the loop would spin; it lives in an epoll of its own, which is readable
only when the trigger has fired. Without CAP_SYS_RESOURCE windows are multiples of two seconds.

A trigger is not believed either: when pressure sets in after a while without any, the kernel (seen on 6.18) fires every trigger
at some milliseconds of stall, whatever its threshold. So the file's own total is compared with what it was at the last word.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from edged.device.cgroups import Cgroup
from edged.domain.resources import Pressure

__all__ = ["TRIGGERS", "PressureWatch", "available", "pressure_files"]

# Of two seconds, some task waited this long for memory, or all of them did. The first is systemd's own choice for a service.
TRIGGERS = {Pressure.SOME: "some 200000 2000000", Pressure.FULL: "full 100000 2000000"}
_QUIET_SECONDS = 5.0  # a trigger fires once a window at most; the kernel looks every two seconds, not quite on time
_KIB = 1024


def available(proc: Path = Path("/proc")) -> int | None:
    """Bytes that the kernel believes can be had without swapping (MemAvailable); None where it does not tell."""
    try:
        lines = (proc / "meminfo").read_text().splitlines()
    except OSError:
        return None
    found = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return None if found is None else int(found) * _KIB


def pressure_files(cgroup: Cgroup | None, proc: Path = Path("/proc")) -> list[Path]:
    """Where pressure may be asked for, best first: the own group's, for others' trouble is not ours to mend."""
    own = [cgroup.path / "memory.pressure"] if cgroup is not None and cgroup.version == 2 else []
    return [*own, proc / "pressure" / "memory"]


class PressureWatch:
    """Calls `on_change` when pressure begins, grows, falls and ends: with SOME or FULL, then with NONE after `quiet` seconds.

    The first of `files` that takes all `triggers` is used; `source` is that file, or None, and then nothing is ever told. A
    context manager, within a running loop.
    """

    def __init__(
        self,
        on_change: Callable[[Pressure], None],
        files: Sequence[Path],
        *,
        triggers: dict[Pressure, str] = TRIGGERS,
        quiet: float = _QUIET_SECONDS,
    ) -> None:
        self._on_change = on_change
        self._files = files
        self._triggers = triggers
        self._quiet = quiet
        self._levels: dict[int, Pressure] = {}
        self._least: dict[int, int] = {}
        self._stalled: dict[int, int] = {}
        self._until: dict[Pressure, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._epoll: select.epoll | None = None
        self.source: Path | None = None
        self.now = Pressure.NONE
        self.wakeups = 0

    def __enter__(self) -> Self:
        self.source = next((file for file in self._files if self._open(file)), None)
        if self.source is not None:
            self._epoll = select.epoll()
            for fd in self._levels:
                self._epoll.register(fd, select.EPOLLPRI)
            asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._ready)
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._epoll is not None:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
        self._close()

    def _open(self, file: Path) -> bool:
        try:
            for level, trigger in self._triggers.items():
                fd = os.open(file, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
                self._levels[fd] = level
                self._stalled[fd] = self._total(fd)
                os.write(fd, f"{trigger}\n".encode())  # older kernels cut the last character off instead of a zero
                self._least[fd] = int(trigger.split()[1]) // 2  # the kernel's window and ours do not begin together
        except OSError:
            self._close()
            return False
        return True

    def _close(self) -> None:
        for fd in self._levels:
            with contextlib.suppress(OSError):
                os.close(fd)
        self._levels = {}

    def _ready(self) -> None:
        self.wakeups += 1
        assert self._epoll is not None
        for fd, events in self._epoll.poll(0):
            if events & select.EPOLLERR:  # its group is gone; it would be reported for ever
                self._epoll.unregister(fd)
            elif self._is_so(fd):
                self._fired(self._levels[fd])

    def _is_so(self, fd: int) -> bool:
        before, self._stalled[fd] = self._stalled[fd], self._total(fd)
        return self._stalled[fd] - before >= self._least[fd]

    def _total(self, fd: int) -> int:
        """Microseconds of stall of the trigger's kind since the boot, or since the group was made."""
        kind = self._levels[fd].name.lower()
        lines = os.pread(fd, 512, 0).decode().splitlines()
        return next((int(line.rpartition("total=")[2]) for line in lines if line.startswith(kind)), 0)

    def _fired(self, level: Pressure) -> None:
        self._until[level] = asyncio.get_running_loop().time() + self._quiet
        self._judge()

    def _judge(self) -> None:
        """Tell what has changed, and look again when the next level has been quiet for long enough."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._until = {level: until for level, until in self._until.items() if until > now}
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(min(self._until.values()), self._judge) if self._until else None
        level = max(self._until, default=Pressure.NONE)
        if level is not self.now:
            self.now = level
            self._on_change(level)
