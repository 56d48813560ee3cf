"""The state folder: private, owned by one daemon at a time, and it counts the daemon's starts."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from edged.domain.errors import ConfigError, StoreUnavailable
from edged.store.faults import RETRY_AFTER

__all__ = ["boot_number", "owned"]

log = logging.getLogger("edged.store")


@contextlib.contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Make `folder` and hold it: a second daemon would free the leases of the first and run its work again.

    Raises ConfigError where it cannot be written or is held, StoreUnavailable where the disk is full. The kernel lets go of it
    when the process dies.
    """
    with _lock_file(folder) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            detail = f"another edged runs on {folder}; stop it or give this one a device.state_dir of its own"
            raise ConfigError(detail, key="device.state_dir", expected="a folder of its own") from None
        yield


def _lock_file(folder: Path) -> IO[str]:
    """Open, in a folder that is made private."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o750)
        return (folder / "lock").open("w")
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StoreUnavailable(f"{folder}: {error.strerror}", retry_after=RETRY_AFTER) from None
        detail = (
            f"{folder}: {error.strerror}. Set device.state_dir or STATE_DIRECTORY to a folder that this user may write."
        )
        raise ConfigError(detail, key="device.state_dir", expected="a writable folder") from None


def boot_number(folder: Path) -> int:
    """Counts starts, so that a late last will of an earlier life can be told from this one's.

    On a full disk the count stays where it is: two lives with the same number are better than none.
    """
    file = folder / "boot"
    try:
        number = int(file.read_text()) + 1
    except (OSError, ValueError):
        number = 1
    temporary = file.with_suffix(".tmp")
    try:
        temporary.write_text(str(number))
        temporary.replace(file)
    except OSError as error:
        log.warning("cannot write the count of starts to %s: %s", file, error.strerror)
    return number
