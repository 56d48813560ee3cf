"""The control groups that this process lives in: what they limit, what is used of it, whom the kernel has killed there.

The rule: limits are read along the own chain, never at the root alone. A container's limit stands some levels up, and what
binds is the level with the least left, not the one with the smallest number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Cgroup", "Level", "kills", "number", "table"]

_PROC = Path("/proc")
_ENDLESS = 1 << 62  # v1 writes "no limit" as the largest number of whole pages


@dataclass(frozen=True, slots=True)
class Level:
    """One group with a limit, in bytes. `used` counts neither `reclaimable` file pages nor `swap`."""

    path: Path
    limit: int
    used: int
    reclaimable: int
    swap: int

    @property
    def free(self) -> int:
        """What can still be had, below nothing where file pages are gone and the limit is passed."""
        return self.limit - self.used


@dataclass(frozen=True, slots=True)
class Cgroup:
    """The group of this process. `levels` are folders, its own first and the mount's root last; `version` is 1 or 2."""

    version: int
    levels: tuple[Path, ...]

    @classmethod
    def own(cls, proc: Path = _PROC) -> Cgroup | None:
        """The group that accounts for this process's memory; None where no group does."""
        try:
            groups = (proc / "self/cgroup").read_text()
            mounts = (proc / "self/mountinfo").read_text()
        except OSError:
            return None
        paths = {name: path for line in groups.splitlines() for name, path in _controllers(line)}
        version = 1 if "memory" in paths else 2
        path = paths.get("memory", paths.get(""))
        mount = next(_mounts(mounts, version), None)
        return None if path is None or mount is None else cls(version, tuple(_chain(path, *mount)))

    @property
    def path(self) -> Path:
        return self.levels[0]

    def tightest(self) -> Level | None:
        """The level that has the least left, or None when nothing is limited."""
        read = _level_v1 if self.version == 1 else _level_v2
        return min((level for path in self.levels if (level := read(path))), key=lambda level: level.free, default=None)

    def oom_kills(self) -> int | None:
        """Processes of this group that the kernel has killed for memory, by whatever limit; on v2 those of groups below too. None
        where the group does not count them."""
        return kills(self.path, self.version)


def kills(path: Path, version: int = 2) -> int | None:
    return table(path / ("memory.oom_control" if version == 1 else "memory.events")).get("oom_kill")


def number(file: Path) -> int | None:
    """A file's one number; None for "max", for none, and where there is no such file."""
    try:
        found = int(file.read_text())
    except (OSError, ValueError):
        return None
    return found if found < _ENDLESS else None


def table(file: Path) -> dict[str, int]:
    """A file of lines "name number", as in memory.stat; empty where there is none."""
    try:
        rows = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return {}
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def _level_v2(path: Path) -> Level | None:
    # above memory.high a group is throttled until it barely runs: it is a limit that nobody is killed for
    limits = [n for name in ("memory.max", "memory.high") if (n := number(path / name)) is not None]
    current = number(path / "memory.current")
    if not limits or current is None:
        return None
    stat = table(path / "memory.stat")
    files = min(current, stat.get("inactive_file", 0) + stat.get("active_file", 0))
    return Level(path, min(limits), current - files, files, number(path / "memory.swap.current") or 0)


def _level_v1(path: Path) -> Level | None:
    limit, current = number(path / "memory.limit_in_bytes"), number(path / "memory.usage_in_bytes")
    if limit is None or current is None:
        return None
    stat = table(path / "memory.stat")
    files = min(current, stat.get("total_inactive_file", 0) + stat.get("total_active_file", 0))
    return Level(path, limit, current - files, files, stat.get("total_swap", 0))


def _controllers(line: str) -> Iterator[tuple[str, str]]:
    """A line of /proc/self/cgroup as (controller, path); v2's controller is ""."""
    _, _, rest = line.partition(":")
    names, found, path = rest.partition(":")
    if found:
        yield from ((name, path) for name in names.split(","))


def _mounts(mountinfo: str, version: int) -> Iterator[tuple[str, Path]]:
    """(the group that is mounted, where) of the hierarchy that has memory: fields 4 and 5 of a line, see proc(5)."""
    for line in mountinfo.splitlines():
        fields, _, tail = line.partition(" - ")
        kind, *_, options = tail.split() or ("", "")
        if kind == ("cgroup2" if version == 2 else "cgroup") and (version == 2 or "memory" in options.split(",")):
            root, point = fields.split()[3:5]
            yield root, Path(point.replace("\\040", " "))


def _chain(path: str, root: str, point: Path) -> Iterator[Path]:
    """From the own group up to what is mounted. A container may be shown its own group as the root."""
    inside = path.removeprefix(root.rstrip("/")) if f"{path}/".startswith(f"{root.rstrip('/')}/") else ""
    parts = [part for part in inside.split("/") if part]
    if ".." in parts:  # outside of what this namespace can see
        parts = []
    for depth in range(len(parts), -1, -1):
        yield point.joinpath(*parts[:depth])
