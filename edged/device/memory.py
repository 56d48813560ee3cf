"""The memory of this device, in one hand: how much is left, whom the kernel has killed, walls, and pressure."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from edged.device.cgroups import Cgroup, table
from edged.device.pressure import PressureWatch, available, pressure_files
from edged.device.walls import Walls
from edged.domain.resources import Headroom, Pressure

__all__ = ["Memory"]

_PROC = Path("/proc")


class Memory:
    """Made before there is any child: with `walls` this process may move to a leaf of its control group, and children are born
    there."""

    def __init__(self, *, walls: bool = True, proc: Path = _PROC) -> None:
        self._proc = proc
        self._cgroup = Cgroup.own(proc)  # the one that systemd made; what is below it counts in it
        self._walls = Walls.delegated(self._cgroup) if walls else None
        self._walled = walls
        self._watch: PressureWatch | None = None

    def headroom(self) -> Headroom:
        level = self._cgroup.tightest() if self._cgroup else None
        return Headroom(level.free if level else None, available(self._proc))

    def oom_kills(self) -> int:
        """Of the own group where there is one, else of the whole device."""
        if self._cgroup is not None and (found := self._cgroup.oom_kills()) is not None:
            return found
        return table(self._proc / "vmstat").get("oom_kill", 0)

    @property
    def around(self) -> Callable[[str, int, int], AbstractContextManager[Callable[[], int]]] | None:
        """See `Walls.around`; None where groups may not be made."""
        return self._walls.around if self._walls else None

    def watch(self, on_change: Callable[[Pressure], None]) -> PressureWatch:
        """Tell of pressure while the context is open; see `PressureWatch`."""
        self._watch = PressureWatch(on_change, pressure_files(self._cgroup, self._proc))
        return self._watch

    def report(self) -> dict[str, Any]:
        """{pressure: none, some, full or unknown, available, limit, limit_used, limit_swap, limit_at, oom_kills, walls}: sizes in
        bytes, None where there is no limit; `walls` are "cgroup", "rlimit" or "off"."""
        level = self._cgroup.tightest() if self._cgroup else None
        known = self._watch is not None and self._watch.source is not None
        return {
            "pressure": self._watch.now.name.lower() if self._watch and known else "unknown",
            "available": available(self._proc),
            "limit": level.limit if level else None,
            "limit_used": level.used if level else None,
            "limit_swap": level.swap if level else None,
            "limit_at": str(level.path) if level else None,
            "oom_kills": self.oom_kills(),
            "walls": "off" if not self._walled else "cgroup" if self._walls else "rlimit",
        }
