"""The tables, as migrations: script N takes the file from `user_version` N to N + 1. A released script is never edited.

Bodies are JSON text (ASCII), so that a row can be read with the `sqlite3` shell and its length is its size in bytes.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MIGRATIONS"]

MIGRATIONS: Final[tuple[str, ...]] = (
    """
    CREATE TABLE inbox (
        seq INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        state TEXT NOT NULL CHECK (state IN ('queued', 'leased', 'escalated', 'done')),
        request TEXT NOT NULL,
        ticket TEXT UNIQUE,
        rank INTEGER NOT NULL,
        deadline REAL NOT NULL,               -- infinity where the request has none
        accepted_at REAL NOT NULL,
        free_at REAL NOT NULL DEFAULT 0,      -- not before, while queued; end of the lease, while leased
        attempts INTEGER NOT NULL DEFAULT 0,
        last_error TEXT,
        done_at REAL,
        CHECK ((state = 'done') = (done_at IS NOT NULL))
    ) STRICT;
    CREATE INDEX inbox_open ON inbox (rank, deadline, accepted_at, seq) WHERE state IN ('queued', 'leased');
    CREATE INDEX inbox_due ON inbox (free_at) WHERE state IN ('queued', 'leased');
    CREATE INDEX inbox_done ON inbox (done_at) WHERE state = 'done';

    -- AUTOINCREMENT: a late acknowledgement of a purged row must not hit a new one with its id.
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        door TEXT NOT NULL,
        request_key TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('interim', 'final', 'event')),
        route TEXT NOT NULL,
        body TEXT NOT NULL,
        created REAL NOT NULL,
        delivered REAL,
        UNIQUE (request_key, kind, door)      -- the last line of defence against a second reply
    ) STRICT;
    CREATE INDEX outbox_pending ON outbox (door, id) WHERE delivered IS NULL;
    CREATE INDEX outbox_created ON outbox (created);

    CREATE TABLE escalations (
        seq INTEGER PRIMARY KEY,
        ticket TEXT NOT NULL UNIQUE,
        request_key TEXT NOT NULL UNIQUE REFERENCES inbox (key) ON DELETE CASCADE,
        state TEXT NOT NULL CHECK (state IN ('waiting', 'leased', 'done', 'dead')),
        created REAL NOT NULL,
        expires_at REAL NOT NULL,
        free_at REAL NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0,
        last_error TEXT
    ) STRICT;
    CREATE INDEX escalations_open ON escalations (seq, free_at) WHERE state IN ('waiting', 'leased');

    CREATE TABLE effects (
        request_key TEXT NOT NULL,
        position INTEGER NOT NULL,
        call TEXT NOT NULL,
        result TEXT,                          -- NULL: begun, and never known to have ended
        begun REAL NOT NULL,
        PRIMARY KEY (request_key, position)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE messages (
        seq INTEGER PRIMARY KEY,
        session TEXT NOT NULL,
        caller_id TEXT NOT NULL,
        message TEXT NOT NULL,
        at REAL NOT NULL
    ) STRICT;
    CREATE INDEX messages_session ON messages (session, caller_id, seq);
    CREATE INDEX messages_at ON messages (at);
    """,
    """
    -- Vectors of different encoders cannot be compared, so each encoder of a collection has a space of its own.
    -- AUTOINCREMENT, twice: whoever holds a copy tells its state by the largest id and the count (see vectors.py).
    CREATE TABLE vector_spaces (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        collection TEXT NOT NULL,
        encoder TEXT NOT NULL,
        width INTEGER NOT NULL,
        UNIQUE (collection, encoder)
    ) STRICT;

    CREATE TABLE vectors (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        space INTEGER NOT NULL REFERENCES vector_spaces (id) ON DELETE CASCADE,
        key TEXT NOT NULL,
        vector BLOB NOT NULL,                 -- int8, in proportion
        body TEXT NOT NULL,
        written REAL NOT NULL,
        used INTEGER NOT NULL,                -- a count and no time: a clock that is not set yet must not choose who goes
        UNIQUE (space, key)
    ) STRICT;
    CREATE INDEX vectors_space ON vectors (space);
    CREATE INDEX vectors_used ON vectors (space, used);
    """,
    """
    CREATE TABLE lessons (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, -- rises with the time of teaching, whatever the clock says
        agent TEXT NOT NULL,
        tool TEXT NOT NULL,
        text TEXT NOT NULL,
        taught REAL NOT NULL,
        UNIQUE (agent, text)
    ) STRICT;
    """,
    """
    CREATE TABLE energy (
        day TEXT NOT NULL,
        agent TEXT NOT NULL,
        source TEXT NOT NULL,                 -- 'measured' or 'estimated': sums of both would be neither
        requests INTEGER NOT NULL,
        joules REAL NOT NULL,
        PRIMARY KEY (day, agent, source)
    ) STRICT, WITHOUT ROWID;
    """,
)
