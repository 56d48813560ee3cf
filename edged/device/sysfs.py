"""Files of sysfs, read tolerantly: what is missing, empty, garbage, out of range or fails in the driver is no value and no error.

A driver may answer anything, and a device may be pulled between two reads; the reason is kept so that it can be told.
"""

from __future__ import annotations

import errno
import math
import os
from pathlib import Path
from typing import Final

__all__ = ["Folder", "folders"]

_MOST: Final = 4096
_GONE: Final = (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOTDIR)


class Folder:
    """One sensor's folder. `faults` are the files that should have told something and did not, with the reason."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.faults: list[str] = []

    def text(self, name: str) -> str | None:
        """The file's text without blanks around it; None if there is nothing to read."""
        try:
            fd = os.open(self.path / name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                data = os.read(fd, _MOST)
            finally:
                os.close(fd)
        except OSError as error:
            if error.errno not in _GONE:
                self.faults.append(f"{name}: {_reason(error)}")
            return None
        return data.decode("utf-8", "replace").strip() or None

    def number(self, name: str, scale: float = 1.0, low: float = -math.inf, high: float = math.inf) -> float | None:
        """The file's number times `scale`; None, and a fault, for one that is not from `low` to `high`."""
        text = self.text(name)
        if text is None:
            return None
        try:
            value = int(text) * scale
        except (ValueError, OverflowError):
            self.faults.append(f"{name}: {text[:40]!r} is no number")
            return None
        if not low <= value <= high:
            self.faults.append(f"{name}: {value:g} cannot be")
            return None
        return value


def folders(path: Path, prefix: str = "") -> list[Path]:
    """What lies in a folder, in order of name; nothing where it cannot be listed."""
    try:
        found = [entry for entry in path.iterdir() if entry.name.startswith(prefix)]
    except OSError:
        return []
    return sorted(found, key=lambda entry: _order(entry.name))


def _order(name: str) -> tuple[str, int, str]:
    """hwmon10 after hwmon9."""
    stem = name.rstrip("0123456789")
    number = name[len(stem) :]
    return stem, int(number) if number else -1, name


def _reason(error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        return "no permission to read it"
    return error.strerror or str(error)
