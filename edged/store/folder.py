"""The state folder: private, owned by one daemon at a time, and it counts the daemon's starts."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from edged.domain.errors import ConfigError

__all__ = ["boot_number", "owned"]


@contextlib.contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Make `folder` and hold it: a second daemon would free the leases of the first and run its work again.

    Raises ConfigError where it cannot be written or is held. The kernel lets go of it when the process dies.
    """
    _make_private(folder)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            detail = f"another edged runs on {folder}; stop it or give this one a device.state_dir of its own"
            raise ConfigError(detail, key="device.state_dir", expected="a folder of its own") from None
        yield


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o750)
    except OSError as error:
        detail = (
            f"{folder}: {error.strerror}. Set device.state_dir or STATE_DIRECTORY to a folder that this user may write."
        )
        raise ConfigError(detail, key="device.state_dir", expected="a writable folder") from None


def boot_number(folder: Path) -> int:
    """Counts starts, so that a late last will of an earlier life can be told from this one's."""
    file = folder / "boot"
    try:
        number = int(file.read_text()) + 1
    except (OSError, ValueError):
        number = 1
    temporary = file.with_suffix(".tmp")
    temporary.write_text(str(number))
    temporary.replace(file)
    return number
