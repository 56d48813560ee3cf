"""How the file is opened: looked at before it is touched, set aside if broken, left alone if newer, then migrated."""

from __future__ import annotations

import contextlib
import errno
import logging
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import aiosqlite

from edged.domain.errors import ConfigError, StoreUnavailable
from edged.store.ballast import Ballast
from edged.store.faults import CORRUPT, RETRY_AFTER, code, public
from edged.store.schema import MIGRATIONS

__all__ = ["connect", "examine"]

log = logging.getLogger("edged.store")

# FULL: NORMAL may lose the last commits with the power. A short log: on a full disk it must fit where the ballast was;
# temporary tables are in memory for the same reason.
_PRAGMAS: Final = (
    "busy_timeout = 5000",
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    "wal_autocheckpoint = 128",
    "temp_store = MEMORY",
    "cache_size = -1024",
)
_NO_ROOM: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN})


def examine(path: Path) -> Path | None:
    """Begin the file if there is none; set it aside if it is corrupt, and return where it is then, else None.

    Looks through a read-only connection, since any other folds the log into the file when it closes. Raises `ConfigError`
    if the file is newer than the program, or its place cannot be written to.
    """
    _begin(path)
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as conn:
            _refuse_newer(path, conn.execute("PRAGMA user_version").fetchone()[0])
            verdict = str(conn.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        if code(error) not in CORRUPT:
            return None  # a hot journal or a full disk: the writing connection deals with it
        verdict = str(error)
    return None if verdict == "ok" else _set_aside(path, verdict)


async def connect(
    stack: AsyncExitStack, path: Path, ballast: Ballast
) -> tuple[aiosqlite.Connection, aiosqlite.Connection]:
    """The writing and the reading connection, closed by `stack`. Raises `ConfigError`, `StoreUnavailable`.

    A full disk may lack the few blocks that opening takes: then the ballast gives them.
    """
    while True:
        try:
            return await stack.enter_async_context(_connections(path))
        except sqlite3.Error as error:
            if code(error) not in _NO_ROOM or not ballast.spend():
                raise public(error) from error


@asynccontextmanager
async def _connections(path: Path) -> AsyncIterator[tuple[aiosqlite.Connection, aiosqlite.Connection]]:
    async with aiosqlite.connect(path, isolation_level=None) as writer:
        for pragma in _PRAGMAS:
            await writer.execute_fetchall(f"PRAGMA {pragma}")
        await _migrate(path, writer)
        async with aiosqlite.connect(path, isolation_level=None) as reader:
            for pragma in ("busy_timeout = 5000", "query_only = ON"):
                await reader.execute_fetchall(f"PRAGMA {pragma}")
            writer.row_factory = reader.row_factory = sqlite3.Row
            yield writer, reader


async def _migrate(path: Path, conn: aiosqlite.Connection) -> None:
    [(version,)] = await conn.execute_fetchall("PRAGMA user_version")
    _refuse_newer(path, version)
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        await conn.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;")


def _begin(path: Path) -> None:
    """An empty file that others cannot read; SQLite gives its log the same mode."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.touch(mode=0o600)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StoreUnavailable(f"no room to begin {path}", retry_after=RETRY_AFTER) from error
        raise ConfigError(f"the store cannot be at {path}: {error}") from error


def _refuse_newer(path: Path, version: int) -> None:
    if version > len(MIGRATIONS):
        raise ConfigError(
            f"{path} was written by a newer version of the program; it is left untouched",
            found=version,
            supported=len(MIGRATIONS),
        )


def _set_aside(path: Path, verdict: str) -> Path:
    target = path.with_name(f"{path.name}.corrupt-{time.time_ns() // 1_000_000}")
    log.error("%s is corrupt (%s); it is kept as %s and a new one is begun", path, verdict, target.name)
    for suffix in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(f"{target}{suffix}")
    _begin(path)
    return target
