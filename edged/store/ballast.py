"""A file that is there to be deleted: its blocks are what lets accepted work finish on a full disk.

While it is spent, the database takes no new work (`Database.write(intake=True)`); it is made again once the disk has room
for it twice over, so that the first free block does not start the game anew.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from edged.store.faults import RETRY_AFTER

__all__ = ["Ballast"]


class Ballast:
    """`size` bytes of real blocks at `path`; 0 means none. Looks at the disk at most once in `RETRY_AFTER` seconds."""

    def __init__(self, path: Path, size: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._size = size
        self._monotonic = monotonic
        self._next_look = -RETRY_AFTER
        self.spent = False

    def make(self) -> None:
        """Allocate it if it is missing; `spent` tells whether there was room."""
        if self._size <= 0:
            return
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, self._size)
            finally:
                os.close(fd)
            self.spent = False
        except OSError:
            self.spend()
            self.spent = True

    def spend(self) -> bool:
        """Give the blocks back to the disk. False if there were none to give."""
        self._next_look = self._monotonic() + RETRY_AFTER
        try:
            self._path.unlink()
        except OSError:
            return False
        self.spent = True
        return True

    def whole(self) -> bool:
        """Is it in place, or could it be made again now?"""
        if self.spent and self._monotonic() >= self._next_look:
            self._next_look = self._monotonic() + RETRY_AFTER
            room = os.statvfs(self._path.parent)
            if room.f_bavail * room.f_frsize >= 2 * self._size:
                self.make()
        return not self.spent
