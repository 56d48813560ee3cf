"""The fence around a plugin child: what it is given, what it must give up, and what the kernel says of it now.

The child applies the fence to itself before it imports a line of the plugin (`workers/plugin`); the environment is made
here. `observe` reads /proc, so `status` shows what holds and not what was meant. There is no network fence yet, and the
report says so.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edged

__all__ = ["Fence", "environment", "observe"]

_KEPT = ("PATH", "LANG", "LANGUAGE", "LC_ALL", "LC_TIME", "TZ", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")


@dataclass(frozen=True, slots=True)
class Fence:
    """Limits of one child: private memory and longest file in bytes, open files."""

    memory: int = 256 << 20
    files: int = 64
    file_size: int = 64 << 20

    def arguments(self) -> list[str]:
        """As `workers/plugin` reads them."""
        return [str(self.memory), str(self.files), str(self.file_size)]


def environment(state_dir: Path, inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The child's whole environment: no keys, tokens or proxies of the daemon's get through.

    The current folder is kept off the import path; two allocator arenas are enough for a plugin and cost less memory.
    """
    root = str(Path(edged.__file__).parent.parent)
    given = {key: inherited[key] for key in _KEPT if key in inherited}
    search = os.pathsep.join(filter(None, [root, inherited.get("PYTHONPATH", "")]))
    fixed = {"PYTHONSAFEPATH": "1", "PYTHONNOUSERSITE": "1", "PYTHONUNBUFFERED": "1", "MALLOC_ARENA_MAX": "2"}
    return {**given, **fixed, "PYTHONPATH": search, "HOME": str(state_dir), "TMPDIR": str(state_dir)}


def observe(pid: int) -> dict[str, Any]:
    """The fence as the kernel reports it; empty when the process is gone."""
    try:
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
        own, theirs = (Path(f"/proc/{p}/ns/net") for p in ("self", str(pid)))
        apart = own.readlink() != theirs.readlink()
    except (OSError, ValueError):
        return {}
    soft = {line[:26].strip(): line[26:47].strip() for line in limits[1:]}
    return {
        "no_new_privs": status.get("NoNewPrivs", "0").strip() == "1",
        "capabilities": int(status.get("CapEff", "0"), 16),
        "seccomp": status.get("Seccomp", "0").strip() != "0",
        "own_network": apart,
        "limits": {key: soft.get(name) for key, name in _LIMITS.items()},
    }


_LIMITS = {
    "data": "Max data size",
    "files": "Max open files",
    "file_size": "Max file size",
    "core": "Max core file size",
}
