"""SQLite's errors, told apart by code: what time mends, what is corruption, and what is a bug."""

from __future__ import annotations

import sqlite3
from typing import Final

from edged.domain.errors import StoreUnavailable

__all__ = ["CORRUPT", "RETRY_AFTER", "STORAGE", "code", "public"]

RETRY_AFTER: Final = 10.0
CORRUPT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
STORAGE: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)


def code(error: sqlite3.Error) -> int:
    """The primary result code; errors made by Python's own binding have none."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def public(error: sqlite3.Error) -> Exception:
    """What a caller gets: time mends a full or failing disk; anything else stays what it is, and climbs."""
    if code(error) not in STORAGE:
        return error
    return StoreUnavailable(
        f"the store cannot commit: {error}", retry_after=RETRY_AFTER, sqlite=getattr(error, "sqlite_errorname", "")
    )
