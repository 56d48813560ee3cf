"""Child groups with a limit of their own, where systemd has handed this process's group over (`Delegate=memory`).

The rule of cgroup v2: a group has either processes or controlled children. So the daemon first moves into a leaf, and only when
it is alone in its group: a shell's group is nobody's to rearrange.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from edged.device.cgroups import Cgroup, kills

__all__ = ["Walls"]

_LEAF = "daemon"


class Walls:
    """Makes groups for workers below `base`. `own` is where this process has gone."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self.own = base / _LEAF

    @classmethod
    def delegated(cls, cgroup: Cgroup | None, pid: int | None = None) -> Self | None:
        """Take over the own group, or None where that may not be; then everything is as it was."""
        pid = pid or os.getpid()
        if cgroup is None or cgroup.version != 2 or not os.access(cgroup.path, os.W_OK):
            return None
        walls = cls(cgroup.path)
        try:
            if not walls._may(pid):
                return None
            walls.own.mkdir(exist_ok=True)
            (walls.own / "cgroup.procs").write_text(str(pid))
            (cgroup.path / "cgroup.subtree_control").write_text("+memory")
        except OSError:
            walls._back(pid)
            return None
        return walls

    def _may(self, pid: int) -> bool:
        alone = (self._base / "cgroup.procs").read_text().split() == [str(pid)]
        return alone and "memory" in (self._base / "cgroup.controllers").read_text().split()

    def _back(self, pid: int) -> None:
        with contextlib.suppress(OSError):
            (self._base / "cgroup.procs").write_text(str(pid))
            self.own.rmdir()

    @contextlib.contextmanager
    def around(self, name: str, pid: int, size: int) -> Iterator[Callable[[], int]]:
        """Hold a process to `size` bytes while the context is open; yields how many the kernel has killed in there.

        Without swap, or a wall would only make it slow. Whoever leaves has seen the process end. A group that cannot be made
        leaves the process where it is.
        """
        group = self._base / f"worker-{name}-{pid}"
        try:
            with contextlib.suppress(OSError):
                group.mkdir()
                (group / "memory.max").write_text(str(size))
                with contextlib.suppress(OSError):  # a kernel without swap has no such file
                    (group / "memory.swap.max").write_text("0")
                (group / "cgroup.procs").write_text(str(pid))
            yield lambda: kills(group) or 0
        finally:
            with contextlib.suppress(OSError):
                group.rmdir()
