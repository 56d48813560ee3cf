"""Memory of this process and its children as the kernel counts it.

Two numbers from one file: psutil would cost an idle daemon as much memory as two tenths of a plugin to read them.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["EX_MEMORY", "private_bytes", "resident_bytes"]

EX_MEMORY = 112  # the exit status of a worker that ran into its memory wall

_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(pid: int | None = None) -> int:
    """Resident set of a process (this one by default) in bytes; 0 if it is gone. Source: /proc/PID/statm."""
    try:
        return int(Path(f"/proc/{pid or os.getpid()}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0


def private_bytes(pid: int) -> int:
    """The part of a process's resident set that no file backs, in bytes; 0 if it is gone. Source: /proc/PID/statm."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
        return (int(fields[1]) - int(fields[2])) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0
