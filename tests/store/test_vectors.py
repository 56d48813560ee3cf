"""Vectors: what was added is found, by its own encoder only, through the real search, and no more is kept than allowed."""

from __future__ import annotations

import asyncio
import math
import random
import sqlite3
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from edged.domain.errors import BadRequest
from edged.store.database import Database
from edged.store.schema import MIGRATIONS
from edged.store.vectors import Entry, Vectors, pack
from edged.workers.nearest import Nearest

from .words import NOW

WIDTH = 48


def vector(name: str) -> bytes:
    """Always the same unit vector for a name, and another for another."""
    rng = random.Random(name)
    values = [rng.gauss(0, 1) for _ in range(WIDTH)]
    length = math.sqrt(sum(value * value for value in values))
    return struct.pack(f"<{WIDTH}f", *[value / length for value in values])


def entries(*names: str) -> list[Entry]:
    return [Entry(name, vector(name), f"text of {name}", {"name": name}) for name in names]


class Worker:
    """The worker's own search in this process, and what was asked of it."""

    def __init__(self) -> None:
        self.near = Nearest()
        self.verbs: Counter[str] = Counter()
        self.rows_sent = 0

    async def __call__(self, verb: str, params: dict[str, Any]) -> Any:
        await asyncio.sleep(0)
        self.verbs[verb] += 1
        if verb == "hold":
            self.rows_sent += len(params["ids"]) // 8
        return self.near.search(**params) if verb == "search" else self.near.hold(**params)


async def nearest(vectors: Vectors, name: str, worker: Worker, k: int = 1, encoder: str = "e1") -> list[str]:
    return [near.key for near in await vectors.search("docs", encoder, vector(name), k, worker)]


async def test_what_was_added_is_found(db: Database) -> None:
    vectors, worker = Vectors(db), Worker()
    await vectors.add("docs", "e1", entries("a", "b", "c"))
    found = await vectors.search("docs", "e1", vector("b"), 2, worker)
    assert (found[0].key, found[0].text, found[0].data) == ("b", "text of b", {"name": "b"})
    assert found[0].cosine == pytest.approx(1, abs=1e-3)
    assert found[1].cosine < 0.7
    assert await vectors.search("other", "e1", vector("b"), 2, worker) == []
    assert len(await vectors.search("docs", "e1", vector("b"), 10, worker)) == 3


async def test_each_row_is_sent_once(db: Database) -> None:
    vectors, worker = Vectors(db), Worker()
    await vectors.add("docs", "e1", entries(*"abcdef"))
    for name in "abcdef":
        assert await nearest(vectors, name, worker) == [name]
    assert worker.rows_sent == 6
    await vectors.add("docs", "e1", entries("g"))
    await vectors.remove("docs", ["a", "c"])
    assert await nearest(vectors, "g", worker) == ["g"]
    assert len(await nearest(vectors, "a", worker)) == 1  # what is gone takes nobody's place
    assert set(await nearest(vectors, "a", worker, k=9)) == set("bdefg")
    assert worker.rows_sent == 7


async def test_many_who_find_the_worker_empty_send_once(db: Database) -> None:
    vectors, worker = Vectors(db), Worker()
    await vectors.add("docs", "e1", entries(*"abc"))
    found = await asyncio.gather(*(nearest(vectors, name, worker) for name in "abcabcabc"))
    assert found == [[name] for name in "abcabcabc"]
    assert worker.rows_sent == 3


async def test_a_new_worker_is_told_everything(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edged.store.vectors._PAGE", 2)
    vectors, worker = Vectors(db), Worker()
    await vectors.add("docs", "e1", entries(*"abcde"))
    assert await nearest(vectors, "e", worker) == ["e"]
    worker.near = Nearest()
    assert await nearest(vectors, "d", worker) == ["d"]
    assert worker.rows_sent == 10


async def test_a_key_has_one_row(db: Database) -> None:
    vectors, worker = Vectors(db), Worker()
    await vectors.add("docs", "e1", entries("a", "b"))
    await nearest(vectors, "a", worker)
    await vectors.add("docs", "e1", [Entry("a", vector("z"), "new"), Entry("a", vector("y"), "newest")])
    assert await nearest(vectors, "y", worker) == ["a"]
    assert await vectors.rows("docs") == [("a", "newest", {}), ("b", "text of b", {"name": "b"})]
    assert await vectors.rows("docs", after="a", limit=1) == [("b", "text of b", {"name": "b"})]


async def test_another_encoders_rows_are_not_compared(db: Database) -> None:
    vectors, worker = Vectors(db), Worker()
    await vectors.add("docs", "e1", entries("a", "b"))
    assert await nearest(vectors, "a", worker, encoder="e2") == []
    await vectors.add("docs", "e2", entries("c"))
    assert await nearest(vectors, "a", worker, k=9, encoder="e2") == ["c"]
    assert [key for key, _, _ in await vectors.stale("docs", "e2")] == ["a", "b"]
    await vectors.add("docs", "e2", entries("a"))
    assert [key for key, _, _ in await vectors.stale("docs", "e2")] == ["b"]
    assert sorted(await nearest(vectors, "a", worker, k=9, encoder="e2")) == ["a", "c"]
    assert (await vectors.count("docs"), await vectors.count("docs", "e2")) == (3, 2)


async def test_a_full_collection_drops_the_useless_first(db: Database) -> None:
    vectors, worker = Vectors(db, limit_rows=4), Worker()
    await vectors.add("docs", "e1", entries("old"))
    await vectors.add("docs", "e2", entries("a", "b", "c"))
    await vectors.add("more", "e2", entries(*"uvwx"))
    for key in ("a", *["old"] * 9):
        await vectors.use("docs", [key])
    await vectors.add("docs", "e2", entries("d"))  # the row that no search sees goes
    assert {key for key, _, _ in await vectors.rows("docs")} == set("abcd")
    await vectors.add("docs", "e2", entries("e", "f"))  # b and c, since a was used
    assert set(await nearest(vectors, "a", worker, k=9, encoder="e2")) == set("adef")
    assert await vectors.count("more") == 4
    assert await db.read("SELECT * FROM vector_spaces WHERE encoder = 'e1'") == []


async def test_purge_by_age(db: Database) -> None:
    times = iter((NOW, NOW + 10))
    vectors = Vectors(db, clock=lambda: next(times))
    await vectors.add("docs", "e1", entries("a"))
    await vectors.add("docs", "e1", entries("b"))
    assert await vectors.purge("docs", NOW + 10) == 1
    assert [key for key, _, _ in await vectors.rows("docs")] == ["b"]


async def test_a_search_ends_though_somebody_writes_all_the_time(db: Database) -> None:
    vectors, worker = Vectors(db), Worker()
    await vectors.add("docs", "e1", entries("a"))
    count = 0

    async def ask(verb: str, params: dict[str, Any]) -> Any:
        nonlocal count
        count += 1
        await vectors.add("docs", "e1", entries(f"n{count}"))
        return await worker(verb, params)

    [found] = await vectors.search("docs", "e1", vector("a"), 1, ask)
    assert found.key == "a"


async def test_what_was_removed_meanwhile_is_left_out(db: Database) -> None:
    vectors, worker = Vectors(db), Worker()
    await vectors.add("docs", "e1", entries("a", "b"))

    async def ask(verb: str, params: dict[str, Any]) -> Any:
        answer = await worker(verb, params)
        if verb == "search" and answer["known"]:
            await vectors.remove("docs", ["a"])
        return answer

    assert [near.key for near in await vectors.search("docs", "e1", vector("a"), 2, ask)] == ["b"]


@pytest.mark.parametrize(
    "bad", [b"", b"abc", bytes(8), struct.pack("<2f", 1, math.nan), struct.pack("<2f", 1, math.inf)]
)
async def test_a_vector_without_a_direction_is_refused(db: Database, bad: bytes) -> None:
    vectors = Vectors(db)
    with pytest.raises(BadRequest):
        await vectors.add("docs", "e1", [*entries("a"), Entry("bad", bad, "")])
    assert await vectors.count("docs") == 0


async def test_one_encoder_has_one_width(db: Database) -> None:
    vectors = Vectors(db)
    await vectors.add("docs", "e1", entries("a"))
    for wrong in (
        [Entry("b", struct.pack("<2f", 1, 0), "")],
        [*entries("c"), Entry("b", struct.pack("<2f", 1, 0), "")],
    ):
        with pytest.raises(BadRequest):
            await vectors.add("docs", "e1", wrong)
    assert [key for key, _, _ in await vectors.rows("docs")] == ["a"]


def test_packing_keeps_the_direction() -> None:
    assert struct.unpack("<4b", pack(struct.pack("<4f", 0.5, -0.25, 0.0, 0.001))) == (127, -64, 0, 0)


async def test_vectors_survive_and_an_older_file_learns_them(tmp_path: Path) -> None:
    path, text = tmp_path / "edged.db", "½ \ud800 \x00"
    with sqlite3.connect(path) as conn:
        conn.executescript(f"{MIGRATIONS[0]}; PRAGMA user_version = 1")
    conn.close()
    async with Database.open(path, ballast_bytes=0) as db:
        await Vectors(db).add("docs", "e1", [Entry("a", vector("a"), text)])
    async with Database.open(path, ballast_bytes=0) as db:
        [found] = await Vectors(db).search("docs", "e1", vector("a"), 1, Worker())
        assert (found.key, found.text) == ("a", text)
