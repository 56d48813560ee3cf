"""The ways to find the nearest vectors that `bench.vectors` compares: each fills a file, opens it, and finds ids.

What a way imports is imported in `open`, so that a child can tell what it costs.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import sqlite3
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["CLIP", "WAYS", "WIDTH", "Way", "connect"]

WIDTH = 384
CLIP = 0.3  # the largest component that int8 tells apart; those of unit vectors of this width are seldom above
_BLOCK = 1024  # rows that are turned into float32 at a time: 1.5 MB, which fits a small L2 cache
Rows = Iterable[tuple[int, bytes]]


def connect(path: Path) -> sqlite3.Connection:
    """A connection as durable as the daemon's."""
    conn = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 128"):
        conn.execute(f"PRAGMA {pragma}")
    return conn


class Way:
    """Plain rows of float32 BLOBs, and no search."""

    threads = 1
    table = "CREATE TABLE IF NOT EXISTS vectors (id INTEGER PRIMARY KEY, vector BLOB NOT NULL) STRICT"
    insert = "INSERT INTO vectors (id, vector) VALUES (?, ?)"

    def fill(self, path: Path, rows: Rows) -> None:
        """All rows in one transaction."""
        with contextlib.closing(self.prepare(path)) as conn:
            conn.execute(self.table)
            conn.execute("BEGIN IMMEDIATE")
            conn.executemany(self.insert, rows)
            conn.execute("COMMIT")

    def prepare(self, path: Path) -> sqlite3.Connection:
        return connect(path)

    @staticmethod
    def packed(vectors: Any) -> list[bytes]:
        """Rows of a float32 matrix as `fill` and `find` take them; not part of what is timed."""
        return [row.astype("<f4").tobytes() for row in vectors]

    @classmethod
    def asked(cls, queries: Any) -> list[bytes]:
        """Queries as `find` takes them."""
        return Way.packed(queries)

    def open(self, path: Path) -> None:
        """Everything that a search needs and that stays: libraries, connections, matrices."""
        raise NotImplementedError

    def find(self, query: bytes, k: int) -> list[int]:
        """The ids of the `k` nearest, nearest first."""
        raise NotImplementedError


class VecFloat(Way):
    """sqlite-vec's `vec0` with float32, Euclidean: for unit vectors the same order as the cosine, and cheaper."""

    table = f"CREATE VIRTUAL TABLE IF NOT EXISTS vectors USING vec0(vector float[{WIDTH}])"
    search = "SELECT rowid FROM vectors WHERE vector MATCH ? AND k = ? ORDER BY distance"
    insert = "INSERT INTO vectors (rowid, vector) VALUES (?, ?)"

    def prepare(self, path: Path) -> sqlite3.Connection:
        conn = connect(path)
        _load_vec(conn)
        return conn

    def open(self, path: Path) -> None:
        self._conn = self.prepare(path)

    def find(self, query: bytes, k: int) -> list[int]:
        return [row[0] for row in self._conn.execute(self.search, (query, k))]


class VecInt8(VecFloat):
    """The same with int8. Its own `vec_quantize_int8` spreads [-1, 1] over 256 steps, of which such vectors use a few dozen."""

    table = f"CREATE VIRTUAL TABLE IF NOT EXISTS vectors USING vec0(vector int8[{WIDTH}])"
    search = "SELECT rowid FROM vectors WHERE vector MATCH vec_int8(?) AND k = ? ORDER BY distance"
    insert = "INSERT INTO vectors (rowid, vector) VALUES (?, vec_int8(?))"

    @staticmethod
    def packed(vectors: Any) -> list[bytes]:
        import numpy as np

        return [row.tobytes() for row in (vectors * (127 / CLIP)).clip(-127, 127).round().astype(np.int8)]

    @classmethod
    def asked(cls, queries: Any) -> list[bytes]:
        return cls.packed(queries)


class Matrix(Way):
    """numpy over a float32 matrix in memory."""

    kind = "float32"

    def open(self, path: Path) -> None:
        import numpy as np

        with contextlib.closing(connect(path)) as conn:
            [[count]] = conn.execute("SELECT count(*) FROM vectors")
            self._ids = np.empty(count, np.int64)
            self._matrix = np.empty((count, WIDTH), self.kind)
            for at, (id, vector) in enumerate(conn.execute("SELECT id, vector FROM vectors ORDER BY id")):
                self._ids[at], self._matrix[at] = id, np.frombuffer(vector, "<f4")

    def scores(self, query: Any) -> Any:
        return self._matrix @ query

    def find(self, query: bytes, k: int) -> list[int]:
        import numpy as np

        return _top(self._ids, self.scores(np.frombuffer(query, "<f4")), k)


class TwoThreads(Matrix):
    """The same with both cores, which on a device the models want."""

    threads = 2


class HalfMatrix(Matrix):
    """float16 in memory, turned into float32 by blocks: BLAS knows neither float16 nor int8."""

    kind = "float16"

    def scores(self, query: Any) -> Any:
        import numpy as np

        found = np.empty(len(self._matrix), np.float32)
        buffer = np.empty((_BLOCK, WIDTH), np.float32)
        for at in range(0, len(found), _BLOCK):
            block = self._matrix[at : at + _BLOCK]
            part = buffer[: len(block)]
            np.copyto(part, block)
            np.dot(part, query, out=found[at : at + _BLOCK])
        return found


class Int8Matrix(Way):
    """What edged does: int8 rows in the file, `workers/nearest` over them."""

    table = f"{Way.table} -- int8"

    @staticmethod
    def packed(vectors: Any) -> list[bytes]:
        import numpy as np

        return [row.tobytes() for row in (vectors / np.abs(vectors).max(axis=1)[:, None] * 127).round().astype(np.int8)]

    def open(self, path: Path) -> None:
        from edged.workers.nearest import Nearest

        self._near, top = Nearest(), 0
        with contextlib.closing(connect(path)) as conn:
            rows = conn.execute("SELECT id, vector FROM vectors ORDER BY id")
            while block := rows.fetchmany(2048):
                ids, parts = array("q", [id for id, _ in block]).tobytes(), b"".join([part for _, part in block])
                top = self._near.hold("a", top, ids, parts)["stamp"][0]

    def find(self, query: bytes, k: int) -> list[int]:
        return [id for id, _ in self._near.search("a", None, query, k)["found"]]


class Blobs(Way):
    """numpy over rows that every search reads anew; nothing stays in memory."""

    def open(self, path: Path) -> None:
        import numpy as np  # noqa: F401

        self._conn = connect(path)

    def find(self, query: bytes, k: int) -> list[int]:
        import numpy as np

        wanted, ids, scores = np.frombuffer(query, "<f4"), [], []
        rows = self._conn.execute("SELECT id, vector FROM vectors")
        while block := rows.fetchmany(_BLOCK):
            ids.append(np.array([id for id, _ in block]))
            scores.append(np.frombuffer(b"".join([v for _, v in block]), "<f4").reshape(-1, WIDTH) @ wanted)
        return _top(np.concatenate(ids), np.concatenate(scores), k)


class Int8Blobs(Blobs):
    """The same over int8."""

    table, packed = Int8Matrix.table, staticmethod(Int8Matrix.packed)

    def find(self, query: bytes, k: int) -> list[int]:
        import numpy as np

        wanted, ids, scores = np.frombuffer(query, "<f4"), [], []
        rows = self._conn.execute("SELECT id, vector FROM vectors")
        while block := rows.fetchmany(_BLOCK):
            ids.append(np.array([id for id, _ in block]))
            part = np.frombuffer(b"".join([v for _, v in block]), np.int8).reshape(-1, WIDTH).astype(np.float32)
            scores.append((part @ wanted) / np.linalg.norm(part, axis=1))
        return _top(np.concatenate(ids), np.concatenate(scores), k)


WAYS: dict[str, type[Way]] = {
    "sqlite-vec float32": VecFloat,
    "sqlite-vec int8": VecInt8,
    "numpy float32 in memory": Matrix,
    "the same, two threads": TwoThreads,
    "numpy float16 in memory": HalfMatrix,
    "edged: numpy int8 in memory": Int8Matrix,
    "numpy over float32 BLOBs": Blobs,
    "numpy over int8 BLOBs": Int8Blobs,
}


def _top(ids: Any, scores: Any, k: int) -> list[int]:
    import numpy as np

    some = np.argpartition(scores, -k)[-k:]
    return [int(id) for id in ids[some[np.argsort(-scores[some])]]]


def _load_vec(conn: sqlite3.Connection) -> None:
    """Load the extension, also into a Python that was built without loadable extensions, as is usual outside distributions.

    The package itself is not imported: it would import numpy.
    """
    spec = importlib.util.find_spec("sqlite_vec")
    if spec is None or spec.origin is None:
        raise RuntimeError("sqlite-vec is not installed")
    file = str(Path(spec.origin).with_name("vec0"))
    if hasattr(conn, "enable_load_extension"):
        conn.enable_load_extension(True)
        conn.load_extension(file)
        return
    # The handle is the first field after the object's header, in every CPython so far.
    handle = ctypes.c_void_p.from_address(id(conn) + object.__basicsize__)
    sqlite, error = ctypes.CDLL("libsqlite3.so.0"), ctypes.c_char_p()
    sqlite.sqlite3_enable_load_extension(handle, 1)
    if sqlite.sqlite3_load_extension(handle, file.encode(), None, ctypes.byref(error)):
        raise RuntimeError(f"sqlite-vec cannot be loaded: {error.value!r}")
