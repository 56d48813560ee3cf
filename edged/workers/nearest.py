"""The nearest vectors, in the memory of the encoders' child: exact search over int8 rows, by cosine.

A set of rows is kept under a key and told by its stamp, the largest id and the count: ids only grow and rows never change, so
two states of a set with the same stamp are the same. What is held is forgotten with the process, or when too much is held;
`search` then says so, and what it has, and the store sends what is missing. BLAS knows no int8, so rows become float32 a block
at a time.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edged.domain.errors import BadRequest

__all__ = ["Nearest"]

_BLOCK = 1024  # rows; 1.5 MB as float32 of width 384, which is what search needs beyond the rows themselves
_MOST_BYTES = 48 << 20  # of all sets together
_PER_ROW = 12  # bytes beside the components: the id, and one over the length


class _Block:
    """Up to `_BLOCK` rows: ids (int64, rising), components (rows, width), and one over each row's length."""

    __slots__ = ("ids", "inverse", "rows")

    def __init__(self, ids: NDArray[np.int64], rows: NDArray[np.int8]) -> None:
        self.ids, self.rows = ids, rows
        length = np.sqrt(np.square(rows, dtype=np.float32).sum(axis=1))
        self.inverse = (1 / np.maximum(length, 1)).astype(np.float32)  # a row of zeros is near to nothing


class _Held:
    """The rows under one key."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.blocks: list[_Block] = []

    @property
    def count(self) -> int:
        return sum(len(block.ids) for block in self.blocks)

    @property
    def stamp(self) -> tuple[int, int]:
        """The largest id and the count; zeros when empty."""
        return (int(self.blocks[-1].ids[-1]), self.count) if self.blocks else (0, 0)

    @property
    def bytes(self) -> int:
        return self.count * (self.width + _PER_ROW)

    def add(self, ids: NDArray[np.int64], rows: NDArray[np.int8]) -> None:
        """Append; a last block that is not full is filled first, so that rows that come singly cost no block each."""
        if self.blocks and len(self.blocks[-1].ids) < _BLOCK:
            last = self.blocks.pop()
            ids, rows = np.concatenate([last.ids, ids]), np.concatenate([last.rows, rows])
        for at in range(0, len(ids), _BLOCK):
            self.blocks.append(_Block(ids[at : at + _BLOCK].copy(), rows[at : at + _BLOCK].copy()))

    def keep(self, ids: NDArray[np.int64]) -> None:
        """Drop all but these."""
        before, self.blocks = self.blocks, []
        for block in before:
            stays = np.isin(block.ids, ids, assume_unique=True)
            if stays.any():
                self.add(block.ids[stays], block.rows[stays])

    def nearest(self, wanted: NDArray[np.float32], k: int) -> list[list[Any]]:
        """[id, cosine] of the `k` nearest, nearest first."""
        buffer = np.empty((_BLOCK, self.width), np.float32)
        scores = []
        for block in self.blocks:
            part = buffer[: len(block.ids)]
            np.copyto(part, block.rows)
            scores.append((part @ wanted) * block.inverse)
        every, ids = np.concatenate(scores), np.concatenate([block.ids for block in self.blocks])
        some = np.argpartition(every, -k)[-k:] if k < len(every) else np.arange(len(every))
        order = some[np.lexsort((ids[some], -every[some]))]
        return [[int(ids[at]), float(every[at])] for at in order]


class Nearest:
    """The verbs `search` and `hold`. Sets that were searched longest ago go first when there is too much."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, _Held] = OrderedDict()

    def search(self, key: str, stamp: list[int] | None, vector: bytes, k: int) -> dict[str, Any]:
        """{known: False, stamp: what is held} unless that is `stamp` (None: any), else {known: True, found: [[id, cosine], ...]}.

        `vector` is float32, little-endian.
        """
        held = self._held.get(key)
        have = held.stamp if held is not None else (0, 0)
        if held is None or not held.blocks or (stamp is not None and tuple(stamp) != have):
            return {"known": False, "stamp": list(have)}
        self._held.move_to_end(key)
        wanted: NDArray[np.float32] = np.frombuffer(vector, "<f4")
        if len(wanted) != held.width:
            raise BadRequest(f"a vector of {len(wanted)} components among those of {held.width}")
        length = float(np.linalg.norm(wanted))
        if not np.isfinite(length):
            raise BadRequest("a vector has finite components")
        return {"known": True, "found": held.nearest((wanted / (length or 1)).astype(np.float32), max(1, k))}

    def hold(self, key: str, after: int, ids: bytes, rows: bytes, keep: bytes | None = None) -> dict[str, Any]:
        """Add rows under `key`, and first drop all but `keep` where it is given -> {stamp}.

        `ids` and `keep` are int64 in this machine's order, rising; `rows` are int8, a row an id. They are added only if `after` is
        the largest id that is held, or 0, which starts anew; the stamp tells the caller what came of it.
        """
        fresh = np.frombuffer(ids, np.int64)
        held = self._held.get(key)
        if held is not None and keep is not None:
            held.keep(np.frombuffer(keep, np.int64))
        if len(fresh) and after == 0:
            held = self._held[key] = _Held(len(rows) // len(fresh))
        if held is None:
            return {"stamp": [0, 0]}
        if len(fresh) and after == held.stamp[0]:
            self._make_room(key, len(fresh) * (held.width + _PER_ROW))
            held.add(fresh, np.frombuffer(rows, np.int8).reshape(len(fresh), held.width))
        return {"stamp": list(held.stamp)}

    def _make_room(self, key: str, more: int) -> None:
        self._held.move_to_end(key)
        while sum(held.bytes for held in self._held.values()) + more > _MOST_BYTES:
            oldest, held = next(iter(self._held.items()))
            del self._held[oldest]
            if oldest == key:
                raise BadRequest(f"{held.count} vectors and more are too many to search")
