"""The processor's own energy counters (RAPL), from class/powercap. Since 2020 only root may read them, unless it is arranged.

A counter goes round at its `max_energy_range_uj`, which a busy processor reaches in an hour or so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from edged.device.sysfs import Folder, folders
from edged.domain.power import Sensor

__all__ = ["Rapl", "Zone", "zones"]

_CLASS: Final = "class/powercap"
_MICRO: Final = 1e-6
_TOP: Final = "package-"
_BESIDE: Final = "dram"  # the only part that its package does not count


class Zone:
    """One counter. `name` is the kernel's, as "package-0"."""

    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        self._path = path
        self._range = Folder(path).number("max_energy_range_uj", _MICRO, 0) or 0.0
        self._last: float | None = None
        self._joules = 0.0

    def joules(self) -> float | None:
        """Joules since the first call; None while the counter cannot be read."""
        now = Folder(self._path).number("energy_uj", _MICRO, 0)
        if now is None:
            self._last = None
            return None
        if self._last is not None:
            gone = now - self._last
            self._joules += gone if gone >= 0 else max(0.0, gone + self._range)
        self._last = now
        return self._joules

    def sensor(self) -> Sensor:
        folder, source = Folder(self._path), f"{_CLASS}/{self._path.name}"
        now = folder.number("energy_uj", _MICRO, 0)
        if now is None:
            return Sensor(self.name, "energy", source, "unreadable", {}, "; ".join(folder.faults) or "nothing to read")
        return Sensor(self.name, "energy", source, "good", {"joules": round(now, 1)})


def zones(root: Path) -> list[Zone]:
    """The counters that add up to what the processors take, each once: packages, and memory beside them."""
    named = [(path, Folder(path).text("name") or "") for path in folders(root / _CLASS, "intel-rapl:")]
    return [Zone(path, name) for path, name in named if name.startswith(_TOP) or name == _BESIDE]


class Rapl:
    """All counters of the device as one."""

    def __init__(self, root: Path) -> None:
        self._zones = zones(root)

    def joules(self) -> float | None:
        """Joules since the first call; None where there is none, or one cannot be read."""
        told = [zone.joules() for zone in self._zones]
        known = [joules for joules in told if joules is not None]
        return sum(known) if known and len(known) == len(told) else None
