"""The Unix socket: with its mode before anybody can connect, and never taken from a daemon that still listens on it."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from edged.domain.errors import ConfigError

__all__ = ["listening"]

_PATH_LIMIT: Final = 107


@contextmanager
def listening(path: Path, mode: int = 0o660, backlog: int = 64) -> Iterator[socket.socket]:
    """A nonblocking listening socket at `path`; leaving removes the file if it is still this one.

    Raises `ConfigError` if somebody listens there, if something other than a socket is in the way, or if the path cannot
    be used.
    """
    _clear(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _bind(sock, path, mode)
        mine = path.stat().st_ino
        try:
            sock.listen(backlog)
            yield sock
        finally:
            with suppress(FileNotFoundError):
                if path.stat().st_ino == mine:
                    path.unlink()
    finally:
        sock.close()


def _clear(path: Path) -> None:
    """Remove the file that a crashed daemon left; nothing else."""
    if len(os.fsencode(path)) > _PATH_LIMIT:
        raise _unusable(path, f"a socket's path may have {_PATH_LIMIT} bytes; choose a shorter one")
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise _unusable(path, "something that is not a socket is there; move it away or choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass
        except OSError as error:
            raise _unusable(path, str(error)) from error
    raise _unusable(path, "another process listens there; stop it or choose another path")


def _bind(sock: socket.socket, path: Path, mode: int) -> None:
    """Nobody can connect before `listen`, so the mode is right in time; a umask would be the whole process's."""
    try:
        sock.bind(os.fspath(path))
        path.chmod(mode)
    except OSError as error:
        raise _unusable(path, f"{error.strerror}; does its directory exist, and may this user write there?") from error
    sock.setblocking(False)


def _unusable(path: Path, why: str) -> ConfigError:
    return ConfigError(f"cannot listen on {path}: {why}", key="socket", path=str(path))
