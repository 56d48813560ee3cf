"""The courier over the real store: what is committed, what is run, and how often."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edged.domain.errors import BadRequest, CloudUnreachable, EdgedError, StoreUnavailable
from edged.domain.messages import Caller, Message, Reply, ReplyStatus, Request, Tier
from edged.domain.ports import Generation
from edged.escalation.backoff import Backoff
from edged.escalation.cloud import CloudModel, CloudSettings
from edged.escalation.courier import Courier, CourierSettings
from edged.store.database import Database
from edged.store.escalations import Escalation, Escalations
from edged.store.inbox import Inbox
from edged.store.outbox import door_topic

from .conftest import Cloud

QUICK = Backoff(base=0.001, cap=0.001)
NEVER = Backoff(base=3000.0, cap=3000.0)
DOWN = CloudUnreachable("no connection", reason="connection", reached=False)
BUSY = CloudUnreachable("503", reason="status", reached=True)


def request(name: str) -> Request:
    return Request(name, "kiosk", f"Tell me about {name}", Caller("c1"), time.time(), deadline=time.time() - 5)


def done(asked: Request) -> Reply:
    return Reply(asked.id, asked.agent, ReplyStatus.DONE, text=f"about {asked.id}", tier=Tier.CLOUD)


# Runs a courier whose process dies at the commit that holds the answer.
KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from edged.domain.messages import Reply, ReplyStatus
from edged.escalation.courier import Courier
from edged.store.database import Database
from edged.store.escalations import Escalations

answered = False

def on_commit(when):
    if answered and when == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

async def run(request):
    global answered
    answered = True
    return Reply(request.id, request.agent, ReplyStatus.DONE, text="from the killed one")

async def main():
    async with Database.open(Path(sys.argv[1]), on_commit=on_commit) as db:
        await Courier(Escalations(db), run).carry()

asyncio.run(main())
"""


@dataclass
class Desk:
    """A store with tickets, a scripted run, and what became of it. An empty script answers."""

    db: Database
    inbox: Inbox
    escalations: Escalations
    script: list[EdgedError] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)

    async def put(self, name: str, expires_in: float = 3600.0, created: float | None = None) -> None:
        asked = request(name)
        interim = Reply(name, asked.agent, ReplyStatus.ESCALATED, ticket=f"t-{name}", finish_reason="escalated")
        created = time.time() if created is None else created
        row = Escalation(ticket=f"t-{name}", request=asked, created=created, expires_at=created + expires_in)
        await self.inbox.escalate(asked, interim, row)

    async def run(self, asked: Request) -> Reply:
        self.ran.append(asked.id)
        assert asked.deadline is None
        if self.script:
            raise self.script.pop(0)
        return done(asked)

    async def final(self, name: str) -> Reply:
        """Waits for the final reply."""
        while True:
            seen = self.db.changes.version(door_topic("http"))
            status = await self.inbox.status(request(name).key)
            assert status is not None
            if status[1] is not None:
                return status[1]
            await self.db.changes.wait(door_topic("http"), seen)

    async def back_in_the_queue(self, name: str, attempts: int = 1) -> Escalation:
        """Waits until so many attempts have failed and are written down."""
        while True:
            seen = self.escalations.version()
            row = await self.escalations.get(f"t-{name}")
            if row is not None and row.attempts >= attempts and row.state == "waiting":
                return row
            await self.escalations.wait_changed(seen)

    async def finals(self) -> int:
        rows = await self.db.read("SELECT count(*) FROM outbox WHERE kind = 'final'", ())
        return int(rows[0][0])


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with Database.open(tmp_path / "edged.db") as db:
        yield Desk(db, Inbox(db), Escalations(db, time.time))


@asynccontextmanager
async def carrying(
    desk: Desk, run: Callable[[Request], Awaitable[Reply]] | None = None, *, backoff: Backoff = QUICK, **rest: Any
) -> AsyncIterator[Courier]:
    limits = {name: rest.pop(name) for name in ("max_attempts", "concurrency", "attempt_seconds") if name in rest}
    escalations = rest.pop("escalations", desk.escalations)
    settings = CourierSettings(backoff=backoff, **limits)
    courier = Courier(escalations, run or desk.run, settings, roll=lambda: 0.9, **rest)
    task = asyncio.create_task(courier.carry())
    try:
        yield courier
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_ticket_is_answered_once(desk: Desk) -> None:
    await desk.put("a")
    async with carrying(desk):
        reply = await desk.final("a")
    assert (reply.status, reply.text, reply.ticket, reply.tier) == (ReplyStatus.DONE, "about a", "t-a", Tier.CLOUD)
    assert reply.stages[0].name == "queue"
    # A new process over the same store finds nothing to do for it.
    await desk.put("b")
    async with carrying(desk):
        await desk.final("b")
    assert desk.ran == ["a", "b"] and await desk.finals() == 2
    assert await desk.escalations.finish("t-a", reply) is False


async def test_a_ticket_that_comes_while_it_sleeps(desk: Desk) -> None:
    async with carrying(desk):
        await desk.put("a")
        assert (await desk.final("a")).status is ReplyStatus.DONE


async def test_it_tries_again_until_the_line_is_up(desk: Desk) -> None:
    desk.script = [DOWN] * 4
    await desk.put("a")
    async with carrying(desk, max_attempts=2):  # what never reached the cloud is not counted
        assert (await desk.final("a")).status is ReplyStatus.DONE
    assert desk.ran == ["a"] * 5


async def test_attempts_that_reached_the_cloud_are_bounded(desk: Desk) -> None:
    desk.script = [BUSY, DOWN, BUSY, DOWN, BUSY, BUSY, BUSY]
    await desk.put("a")
    async with carrying(desk, max_attempts=3):
        reply = await desk.final("a")
    assert reply.status is ReplyStatus.FAILED and reply.error is not None
    assert (reply.error["code"], reply.ticket) == ("escalation_exhausted", "t-a")
    assert desk.ran == ["a"] * 5 and await desk.finals() == 1


async def test_a_refusal_is_final(desk: Desk) -> None:
    desk.script = [BadRequest("the cloud answered 401", reason="cloud_refused", status=401)]
    await desk.put("a")
    await desk.put("b")
    async with carrying(desk):
        reply = await desk.final("a")
        assert (await desk.final("b")).status is ReplyStatus.DONE
    assert (reply.status, reply.text, reply.finish_reason) == (ReplyStatus.FAILED, "the cloud answered 401", "error")
    assert reply.error is not None and reply.error["code"] == "bad_request"
    assert desk.ran == ["a", "b"]


async def test_a_failed_reply_is_judged_like_an_error(desk: Desk) -> None:
    answers = [BUSY, BadRequest("no")]

    async def run(asked: Request) -> Reply:
        return Reply(asked.id, asked.agent, ReplyStatus.FAILED, error=answers.pop(0).to_wire())

    await desk.put("a")
    async with carrying(desk, run):
        reply = await desk.final("a")
    assert reply.text == "no" and answers == []


async def test_expiry(desk: Desk) -> None:
    await desk.put("old", expires_in=10.0, created=time.time() - 60)
    await desk.put("new")
    async with carrying(desk):
        reply = await desk.final("old")
        await desk.final("new")
    assert reply.status is ReplyStatus.FAILED and reply.error is not None
    assert reply.error["code"] == "escalation_expired" and desk.ran == ["new"]


async def test_nothing_expires_by_a_clock_that_is_not_set(desk: Desk) -> None:
    await desk.put("old", expires_in=10.0, created=time.time() - 60)
    async with carrying(desk, clock_is_set=lambda: False):
        assert (await desk.final("old")).status is ReplyStatus.DONE


async def test_a_dead_line_is_probed_by_one_ticket_and_a_poke_ends_the_wait(desk: Desk) -> None:
    poked: list[bool] = []
    failed = asyncio.Event()

    async def run(asked: Request) -> Reply:
        poked.append(failed.is_set())
        return await desk.run(asked)

    desk.script = [DOWN]
    await desk.put("a")
    await desk.put("b")
    async with carrying(desk, run, backoff=NEVER) as courier:
        await desk.back_in_the_queue("a")
        failed.set()
        courier.poke()
        await desk.final("a")
        await desk.final("b")
    assert poked == [False, True, True]


async def test_a_poke_during_an_attempt_outlives_its_failure(desk: Desk) -> None:
    async def run(asked: Request) -> Reply:
        if not desk.ran:
            courier.poke()
        return await desk.run(asked)

    desk.script = [DOWN]
    await desk.put("a")
    async with carrying(desk, run, backoff=NEVER) as courier:
        await desk.final("a")
    assert desk.ran == ["a", "a"]


async def test_a_clock_set_back_does_not_strand_a_ticket(desk: Desk) -> None:
    ahead = time.time() + 10 * 365 * 86400
    await desk.put("a", created=ahead)
    leased = await desk.escalations.lease(ahead, 60.0)
    assert leased is not None
    await desk.escalations.release("t-a", DOWN, ahead + 100)
    async with carrying(desk):
        assert (await desk.final("a")).status is ReplyStatus.DONE


async def test_a_stop_gives_the_ticket_back(desk: Desk) -> None:
    began = asyncio.Event()

    async def run(asked: Request) -> Reply:
        began.set()
        await asyncio.Event().wait()
        raise AssertionError

    await desk.put("a")
    async with carrying(desk, run):
        await began.wait()
    row = await desk.escalations.lease(time.time() + 1, 60.0)
    assert row is not None and row.ticket == "t-a"
    assert row.last_error is not None and row.last_error.endswith(" (1 uncounted)")


async def test_what_is_not_counted_survives_a_restart(desk: Desk) -> None:
    await desk.put("a")
    for start in (1, 2, 3):
        desk.script = [DOWN]
        async with carrying(desk, max_attempts=1, backoff=NEVER) as courier:
            courier.poke()
            await desk.back_in_the_queue("a", attempts=start)
    desk.script = []
    async with carrying(desk, max_attempts=1) as courier:
        courier.poke()
        assert (await desk.final("a")).status is ReplyStatus.DONE


@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_at_the_commit_of_the_answer(tmp_path: Path, when: str) -> None:
    """SIGKILL right before or right after that commit: one final reply, and no second run where the first was kept."""
    path = tmp_path / "edged.db"
    async with Database.open(path) as db:
        await Desk(db, Inbox(db), Escalations(db, time.time)).put("a")
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, str(path), when)
    assert await child.wait() == -signal.SIGKILL
    async with Database.open(path) as db:
        desk = Desk(db, Inbox(db), Escalations(db, time.time))
        async with carrying(desk):
            await desk.put("b")
            await desk.final("b")
            reply = await desk.final("a")
        assert await desk.finals() == 2
    assert desk.ran == (["b"] if when == "after" else ["a", "b"])
    assert reply.text == ("from the killed one" if when == "after" else "about a")


async def test_what_ended_the_process_counts(desk: Desk) -> None:
    await desk.put("a")
    for _ in range(3):  # leased, and then the process died
        assert await desk.escalations.lease(time.time(), 1e9) is not None
        await desk.escalations.recover()
    async with carrying(desk, max_attempts=3):
        reply = await desk.final("a")
    assert reply.error is not None and reply.error["code"] == "escalation_exhausted" and desk.ran == []


async def test_a_full_disk_does_not_ask_the_cloud_twice(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    real, failures = desk.escalations.finish, [1, 2]

    async def finish(ticket: str, reply: Reply) -> bool:
        if failures:
            failures.pop()
            raise StoreUnavailable("disk full", retry_after=0.001)
        return await real(ticket, reply)

    monkeypatch.setattr(desk.escalations, "finish", finish)
    await desk.put("a")
    async with carrying(desk):
        assert (await desk.final("a")).status is ReplyStatus.DONE
    assert desk.ran == ["a"] and failures == []


async def test_an_attempt_has_a_limit(desk: Desk) -> None:
    async def run(asked: Request) -> Reply:
        await desk.run(asked)
        await asyncio.Event().wait()
        raise AssertionError

    await desk.put("a")
    async with carrying(desk, run, max_attempts=2, attempt_seconds=0.01):
        reply = await desk.final("a")
    assert desk.ran == ["a", "a"] and "took too long" in reply.text


async def test_two_lanes(desk: Desk) -> None:
    both = asyncio.Barrier(2)

    async def run(asked: Request) -> Reply:
        await both.wait()
        return await desk.run(asked)

    for name in "abcd":
        await desk.put(name)
    async with carrying(desk, run, concurrency=2):
        for name in "abcd":
            await desk.final(name)
    assert sorted(desk.ran) == list("abcd") and await desk.finals() == 4


async def test_a_bug_climbs(desk: Desk) -> None:
    async def run(asked: Request) -> Reply:
        raise ZeroDivisionError

    await desk.put("a")
    with pytest.raises(ExceptionGroup) as caught:
        await Courier(desk.escalations, run).carry()
    assert caught.group_contains(ZeroDivisionError)


async def test_through_the_real_client(desk: Desk, cloud: Cloud) -> None:
    cloud.state.faults.fail_first, cloud.state.faults.retry_after = 3, 0.001
    client = CloudModel(CloudSettings(cloud.base_url, "big", max_attempts=1))

    async def run(asked: Request) -> Reply:
        generation = Generation("local", (Message("user", asked.text),), request_id=asked.key)
        completion = await client.generate(generation)
        return Reply(asked.id, asked.agent, ReplyStatus.DONE, text=completion.text, model=completion.model)

    await desk.put("a")
    async with carrying(desk, run):
        reply = await desk.final("a")
    assert "stand-in" in reply.text and reply.model == "stand-in" and reply.tier is Tier.CLOUD
    assert (cloud.state.requests, len(cloud.state.keys), cloud.state.duplicates) == (4, 1, 3)
