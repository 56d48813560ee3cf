"""The writer: one commit for many, each failing alone, readers that see commits only, full disks, broken and newer files."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiosqlite
import pytest

from edged.domain.errors import BadRequest, ConfigError, StoreUnavailable
from edged.store.database import Database
from edged.store.inbox import Inbox
from edged.store.schema import MIGRATIONS

from .words import reply, request


def append(text: str) -> Callable[[aiosqlite.Connection], Awaitable[None]]:
    async def op(conn: aiosqlite.Connection) -> None:
        await conn.execute("INSERT INTO messages (session, caller_id, message, at) VALUES ('s', 'c', ?, 0)", (text,))

    return op


async def texts(db: Database) -> list[str]:
    return [row["message"] for row in await db.read("SELECT message FROM messages ORDER BY seq")]


async def test_what_waits_together_is_committed_together(tmp_path: Path) -> None:
    commits: list[str] = []
    async with Database.open(tmp_path / "db", on_commit=commits.append) as db:
        await asyncio.gather(*(db.write(append(str(n))) for n in range(100)))
        assert await texts(db) == [str(n) for n in range(100)]
    assert commits == ["before", "after"]


async def test_an_operation_fails_alone(db: Database) -> None:
    async def fail(conn: aiosqlite.Connection) -> None:
        await append("lost")(conn)
        raise BadRequest("no")

    async def violate(conn: aiosqlite.Connection) -> None:
        await append("lost, too")(conn)
        await conn.execute("INSERT INTO escalations VALUES (1, 't', 'nobody', 'waiting', 0, 0, 0, 0, NULL)")
        await conn.execute("INSERT INTO messages (session) VALUES (NULL)")

    results = await asyncio.gather(
        db.write(append("a")), db.write(fail), db.write(violate), db.write(append("b")), return_exceptions=True
    )
    assert [type(result) for result in results] == [type(None), BadRequest, sqlite3.IntegrityError, type(None)]
    assert await texts(db) == ["a", "b"]


async def test_readers_see_nothing_before_the_commit(db: Database) -> None:
    seen: list[list[str]] = []

    async def look(conn: aiosqlite.Connection) -> None:
        await append("a")(conn)
        seen.append(await texts(db))

    await db.write(look)
    assert seen == [[]]
    assert await texts(db) == ["a"]
    with pytest.raises(StoreUnavailable):
        await db.read("DELETE FROM messages RETURNING 1")


async def test_a_cancelled_caller_breaks_nothing(db: Database) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(conn: aiosqlite.Connection) -> None:
        await append("running")(conn)
        begun.set()
        await go_on.wait()

    before = db.changes.version("topic")
    running = asyncio.create_task(db.write(slow, wake=("topic",)))
    await begun.wait()
    queued = asyncio.create_task(db.write(append("queued")))
    other = asyncio.create_task(db.write(append("other")))
    await asyncio.sleep(0)
    running.cancel()
    queued.cancel()
    await asyncio.wait([running, queued])
    go_on.set()
    await other
    assert await texts(db) == ["running", "other"]
    assert db.changes.version("topic") == before + 1


async def test_leaving_commits_what_is_queued(tmp_path: Path) -> None:
    async with Database.open(tmp_path / "db") as db:
        tasks = [asyncio.create_task(db.write(append(str(n)))) for n in range(300)]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    with pytest.raises(StoreUnavailable):
        await db.write(append("late"))
    async with Database.open(tmp_path / "db") as db:
        assert len(await texts(db)) == 300


async def test_settings_that_durability_rests_on(db: Database) -> None:
    async def settings(conn: aiosqlite.Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "user_version")
        return [next(iter(await conn.execute_fetchall(f"PRAGMA {name}")))[0] for name in names]

    await asyncio.gather(db.write(append("a")))
    # `synchronous` cannot be set inside a transaction, so this is what the commits ran under
    assert await db.write(settings) == ["wal", 2, 1, len(MIGRATIONS)]


async def test_others_cannot_read_it(tmp_path: Path) -> None:
    async with Database.open(tmp_path / "db") as db:
        await db.write(append("a"))
        for name in ("db", "db-wal", "db-shm", "db.ballast"):
            assert (tmp_path / name).stat().st_mode & 0o777 == 0o600, name


async def test_a_file_that_cannot_grow(tmp_path: Path) -> None:
    async with Database.open(tmp_path / "db", ballast_bytes=4096) as db:

        async def limit(conn: aiosqlite.Connection) -> None:
            [(pages,)] = await conn.execute_fetchall("PRAGMA page_count")
            await conn.execute_fetchall(f"PRAGMA max_page_count = {pages}")

        async def unlimit(conn: aiosqlite.Connection) -> None:
            await conn.execute_fetchall("PRAGMA max_page_count = 1000000")

        await db.write(limit)
        with pytest.raises(StoreUnavailable) as caught:
            await asyncio.gather(*(db.write(append("x" * 8192)) for _ in range(3)))
        assert caught.value.retry_after
        assert db.lean
        with pytest.raises(StoreUnavailable):
            await db.write(append("new work"), intake=True)
        await db.write(unlimit)
        await db.write(append("the writer lives"))
        assert await texts(db) == ["the writer lives"]


@pytest.mark.parametrize("damage", ["header", "page", "not a database"])
async def test_a_corrupt_file_is_set_aside(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "db"
    async with Database.open(path) as db:
        await asyncio.gather(*(db.write(append("x" * 500)) for _ in range(200)))
    whole = bytearray(path.read_bytes())
    if damage == "header":
        whole[:16] = bytes(16)
    elif damage == "page":
        whole[4096:] = bytes(b ^ 0x5A for b in whole[4096:])
    else:
        whole[:] = b"no database at all\n" * 500
    path.write_bytes(whole)
    async with Database.open(path) as db:
        assert await texts(db) == []
        await db.write(append("work goes on"))
        assert db.set_aside is not None
        assert db.set_aside.name.startswith("db.corrupt-")
        assert db.set_aside.read_bytes() == whole
    async with Database.open(path) as db:
        assert db.set_aside is None
        assert await texts(db) == ["work goes on"]


@pytest.mark.parametrize("in_log", [False, True])
async def test_a_newer_file_is_refused_and_untouched(tmp_path: Path, in_log: bool) -> None:
    source, path = tmp_path / "source" / "db", tmp_path / "db"
    async with Database.open(source, ballast_bytes=0) as db:
        await db.write(append("a"))
    with contextlib.closing(sqlite3.connect(source)) as conn:
        conn.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
        if not in_log:
            conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for name in ("db", "db-wal"):  # as a crash would leave them
            shutil.copy(source.with_name(name), tmp_path / name)
    before = {name: (tmp_path / name).read_bytes() for name in ("db", "db-wal")}
    stamp = path.stat().st_mtime_ns
    assert bool(before["db-wal"]) == in_log
    with pytest.raises(ConfigError):
        async with Database.open(path):
            raise AssertionError("opened")
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert path.stat().st_mtime_ns == stamp
    assert not (tmp_path / "db.ballast").exists()


async def test_a_place_that_cannot_be_is_an_error_of_configuration(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError):
        async with Database.open(tmp_path / "file" / "db"):
            raise AssertionError("opened")


async def test_a_crash_while_migrating_leaves_the_old_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "db"
    async with Database.open(path) as db:
        await db.write(append("a"))
    broken = (*MIGRATIONS, "CREATE TABLE fresh (x); SELECT no_such_function();")
    monkeypatch.setattr("edged.store.opening.MIGRATIONS", broken)
    with pytest.raises(sqlite3.OperationalError):
        async with Database.open(path):
            raise AssertionError("opened")
    monkeypatch.setattr("edged.store.opening.MIGRATIONS", (*MIGRATIONS, "CREATE TABLE fresh (x);"))
    async with Database.open(path) as db:
        assert await texts(db) == ["a"]
        assert await db.read("SELECT * FROM fresh") == []


async def test_inbox_and_reply_survive_reopening(tmp_path: Path) -> None:
    one = request("a", text="½ \ud800 \x00 ok")
    async with Database.open(tmp_path / "db") as db:
        await Inbox(db).accept(one)
        await Inbox(db).finish(one, reply("a", "snowman ☃"))
    async with Database.open(tmp_path / "db") as db:
        accepted = await Inbox(db).accept(one)
        assert accepted.state == "answered"
        assert accepted.reply == reply("a", "snowman ☃")
