"""Kill -9 at a commit, again and again on the same file: nothing acknowledged is lost, nothing is answered twice."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from edged.store.database import Database
from edged.store.escalations import Escalations
from edged.store.inbox import Inbox

from .words import NOW, reply

LIVES = 4
TESTS = Path(__file__).parents[1]


async def live_and_die(path: Path, seed: int, dice: random.Random) -> list[list[str]]:
    """What the child says it was promised before it was killed."""
    phase, nth = dice.choice(("before", "after")), dice.randrange(1, 120)
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "store.crash_child", str(path), str(seed), phase, str(nth)),
        cwd=TESTS,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await child.communicate()
    assert child.returncode == -signal.SIGKILL
    return [json.loads(line) for line in said.splitlines()]


async def check(db: Database, promises: list[list[str]]) -> None:
    inbox, escalations = Inbox(db), Escalations(db)
    for what, *rest in promises:
        if what == "effect":
            [row] = await db.read("SELECT count(*) FROM effects WHERE request_key = ?", rest)
            assert row[0] == 1
        elif what == "delivered":
            assert await db.read("SELECT 1 FROM outbox WHERE id = ? AND delivered IS NOT NULL", (int(rest[0]),))
        elif what != "emitted":
            status = await inbox.status(rest[0])
            assert status is not None, f"lost: {rest[0]}"
            state, final, interim = status
            if what == "finished":
                assert state == "done"
                assert final is not None
                assert final.text == rest[1]
            if what == "escalated":
                assert interim is not None
                assert interim.ticket == rest[1]
                assert await escalations.get(rest[1]) is not None
    for broken in (
        "SELECT key FROM inbox WHERE (state = 'done') <>"
        " EXISTS (SELECT 1 FROM outbox WHERE request_key = key AND kind = 'final')",
        "SELECT key FROM inbox i WHERE (state = 'escalated') <> EXISTS"
        " (SELECT 1 FROM escalations e WHERE e.request_key = i.key AND e.state IN ('waiting', 'leased'))",
        "SELECT request_key FROM escalations e WHERE NOT EXISTS"
        " (SELECT 1 FROM outbox o WHERE o.request_key = e.request_key AND o.kind = 'interim')",
    ):
        assert [tuple(row) for row in await db.read(broken)] == []


async def work_off(db: Database) -> None:
    inbox, escalations = Inbox(db), Escalations(db)
    await inbox.recover()
    await escalations.recover()
    while (one := await inbox.lease(NOW, 60)) is not None:
        assert await inbox.finish(one, reply(one.id, "after the crash"))
    while (leased := await escalations.lease(NOW, 60)) is not None:
        assert await escalations.finish(leased.ticket, reply(leased.request.id, "after the crash"))


@pytest.mark.parametrize("seed", range(4))
async def test_lives(tmp_path: Path, seed: int) -> None:
    path, dice, promises = tmp_path / "edged.db", random.Random(seed), list[list[str]]()
    for life in range(LIVES):
        promises += await live_and_die(path, seed * LIVES + life, dice)
        async with Database.open(path, ballast_bytes=0) as db:
            assert db.set_aside is None
            await check(db, promises)
    finished = Counter(key for what, key, *_ in (p for p in promises if len(p) > 1) if what == "finished")
    effects = Counter(key for what, key, *_ in (p for p in promises if len(p) > 1) if what == "effect")
    assert set(finished.values()) | set(effects.values()) <= {1}
    async with Database.open(path, ballast_bytes=0) as db:
        await work_off(db)
        await check(db, promises)
        assert set(await Inbox(db).counts()) == {"done"}


@pytest.mark.parametrize(("phase", "kept"), [("before", False), ("after", True)])
async def test_the_hook_is_where_it_says(tmp_path: Path, phase: str, kept: bool) -> None:
    """The two sides of the first commit that accepts: recover's two come before it."""
    path = tmp_path / "edged.db"
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "store.crash_child", str(path), "1", phase, "3"), cwd=TESTS, stdout=-1
    )
    said, _ = await child.communicate()
    assert (child.returncode, said) == (-signal.SIGKILL, b"")
    async with Database.open(path, ballast_bytes=0) as db:
        assert (await Inbox(db).status("mqtt:till-1:life1-0") is not None) == kept
