"""Acceptance, order of leases, one answer a request, and what is forgotten when."""

from __future__ import annotations

import asyncio

import pytest

from edged.domain.errors import BadRequest, EngineCrashed, QueueFull
from edged.domain.messages import Event, Priority
from edged.store.database import Database
from edged.store.escalations import Escalations
from edged.store.inbox import Accepted, Inbox
from edged.store.outbox import Outbox

from .words import NOW, escalation, interim, reply, request

DAY = 86400.0


async def test_accept_tells_new_pending_and_answered(db: Database) -> None:
    inbox, one = Inbox(db), request("a")
    assert await inbox.accept(one) == Accepted("new")
    assert await inbox.accept(one) == Accepted("pending")
    await inbox.escalate(one, interim("a", "t"), escalation(one, "t"))
    assert await inbox.accept(one) == Accepted("pending", interim("a", "t"))
    await inbox.finish(one, reply("a"))
    assert await inbox.accept(one) == Accepted("answered", reply("a"))
    assert await inbox.counts() == {"done": 1}


async def test_the_same_id_for_something_else_is_a_conflict(db: Database) -> None:
    inbox = Inbox(db)
    await inbox.accept(request("a"))
    with pytest.raises(BadRequest) as caught:
        await inbox.accept(request("a", text="something else"))
    assert caught.value.code == "bad_request"
    assert caught.value.fields["reason"] == "idempotency_conflict"
    assert (await inbox.accept(request("a", door="http", text="another caller"))).state == "new"


async def test_a_full_queue_refuses_but_still_knows_its_own(db: Database) -> None:
    inbox = Inbox(db, limit_rows=2)
    results = await asyncio.gather(*(inbox.accept(request(name)) for name in "abc"), return_exceptions=True)
    assert [type(result) for result in results] == [Accepted, Accepted, QueueFull]
    assert (await inbox.accept(request("a"))).state == "pending"
    await inbox.finish(request("a"), reply("a"))
    assert (await inbox.accept(request("c"))).state == "new"


async def test_too_many_escalations_leave_the_request_where_it_was(db: Database) -> None:
    inbox, one, two = Inbox(db, limit_escalations=1), request("a"), request("b")
    assert await inbox.escalate(one, interim("a", "t1"), escalation(one, "t1"))
    await inbox.accept(two)
    with pytest.raises(QueueFull):
        await inbox.escalate(two, interim("b", "t2"), escalation(two, "t2"))
    assert await inbox.status(two.key) == ("queued", None, None)


async def test_an_id_that_cannot_be_stored_is_the_callers_error(db: Database) -> None:
    with pytest.raises(BadRequest):
        await Inbox(db).accept(request("\ud800"))
    assert await Inbox(db).status("mqtt:till-1:\ud800") is None
    assert await Inbox(db).by_ticket("\ud800") is None


async def test_the_most_urgent_goes_first(db: Database) -> None:
    inbox = Inbox(db)
    for one in (
        request("low", priority=Priority.LOW, deadline=NOW + 1),
        request("late", at=NOW + 2),
        request("early", at=NOW + 1),
        request("due", deadline=NOW + 60, at=NOW + 3),
        request("sooner", deadline=NOW + 50, at=NOW + 3),
        request("high", priority=Priority.HIGH, at=NOW + 9),
    ):
        await inbox.accept(one)
    order = []
    while (leased := await inbox.lease(NOW + 10, 60)) is not None:
        order.append(leased.id)
    assert order == ["high", "sooner", "due", "early", "late", "low"]


async def test_leases_expire_and_releases_wait(db: Database) -> None:
    inbox, one = Inbox(db, clock=lambda: NOW), request("a")
    assert await inbox.next_due(NOW) is None
    await inbox.accept(one)
    assert await inbox.next_due(NOW) == NOW
    assert await inbox.lease(NOW, 30) == one
    assert await inbox.lease(NOW + 29.9, 30) is None
    assert await inbox.next_due(NOW) == NOW + 30
    assert await inbox.lease(NOW + 30, 30) == one
    assert await inbox.release(one.key, EngineCrashed("gone"), 5) == 2
    assert await inbox.lease(NOW + 4.9, 30) is None
    assert await inbox.next_due(NOW) == NOW + 5
    assert await inbox.lease(NOW + 5, 30) == one
    assert await inbox.attempts(one.key) == 3
    assert await inbox.release("unknown", EngineCrashed("gone"), 5) == 0


async def test_a_release_never_sleeps_past_the_deadline(db: Database) -> None:
    inbox = Inbox(db, clock=lambda: NOW)
    await inbox.accept(request("a", deadline=NOW + 3))
    await inbox.lease(NOW, 30)
    await inbox.release(request("a").key, EngineCrashed("gone"), 60)
    assert await inbox.next_due(NOW) == NOW + 3


async def test_recover_frees_leases_at_once(db: Database) -> None:
    inbox = Inbox(db)
    for name in "ab":
        await inbox.accept(request(name))
    await inbox.lease(NOW, 1e6)
    assert await inbox.recover() == 1
    assert {leased.id for _ in "ab" if (leased := await inbox.lease(NOW, 60))} == {"a", "b"}


async def test_there_is_never_a_second_answer(db: Database) -> None:
    inbox, outbox, one = Inbox(db), Outbox(db), request("a")
    await inbox.accept(one)
    results = await asyncio.gather(*(inbox.finish(one, reply("a", str(n))) for n in range(5)))
    assert results == [True, False, False, False, False]
    assert not await inbox.escalate(one, interim("a", "t"), escalation(one, "t"))
    assert await inbox.status(one.key) == ("done", reply("a", "0"), None)
    [row] = await outbox.pending("mqtt")
    assert (row.kind, row.route, row.body["text"]) == ("final", {"topic": "reply/a"}, "0")


async def test_a_request_without_a_row_is_answered_once_too(db: Database) -> None:
    inbox = Inbox(db)
    assert await inbox.finish(request("a"), reply("a"))
    assert not await inbox.finish(request("a"), reply("a"))


async def test_escalating_is_one_step(db: Database) -> None:
    inbox, escalations, one = Inbox(db), Escalations(db), request("a")
    assert await inbox.escalate(one, interim("a", "t"), escalation(one, "t"))
    assert not await inbox.escalate(one, interim("a", "t2"), escalation(one, "t2"))
    assert await inbox.status(one.key) == ("escalated", None, interim("a", "t"))
    assert await inbox.by_ticket("t") == one.key
    assert await inbox.by_ticket("t2") is None
    assert await inbox.lease(NOW + 1e6, 1) is None
    found = await escalations.get("t")
    assert found is not None
    assert (found.request, found.state) == (one, "waiting")


async def test_a_local_answer_ends_the_escalation(db: Database) -> None:
    inbox, escalations, one = Inbox(db), Escalations(db), request("a")
    await inbox.escalate(one, interim("a", "t"), escalation(one, "t"))
    assert await inbox.finish(one, reply("a", "local"))
    assert not await escalations.finish("t", reply("a", "cloud"))
    assert await escalations.counts() == {"done": 1}
    assert await inbox.status(one.key) == ("done", reply("a", "local"), interim("a", "t"))


async def test_a_fetched_reply_counts_as_delivered(db: Database) -> None:
    inbox, outbox = Inbox(db), Outbox(db)
    for one in (request("a", door="http"), request("a")):
        await inbox.accept(one)
        await inbox.finish(one, reply("a"))
        assert await inbox.status(one.key) == ("done", reply("a"), None)
    assert await outbox.pending("http") == []
    assert len(await outbox.pending("mqtt")) == 1


async def test_waiting_misses_nothing(db: Database) -> None:
    inbox, one = Inbox(db), request("a")
    await inbox.accept(one)
    seen = inbox.version()
    assert await asyncio.wait_for(inbox.wait_changed(), 5) == seen
    waiter = asyncio.create_task(inbox.wait_changed())
    others = [asyncio.create_task(inbox.wait_changed(seen)) for _ in range(3)]
    await asyncio.sleep(0)
    assert not waiter.done()
    await inbox.accept(request("b"))
    assert set(await asyncio.wait_for(asyncio.gather(waiter, *others), 5)) == {seen + 1}
    assert await inbox.wait_changed(seen) == seen + 1


@pytest.mark.parametrize(
    ("finished_at", "now", "kept"),
    [
        (NOW, NOW + DAY - 1, True),
        (NOW, NOW + DAY, False),
        (1000.0, 1000.0 + 2 * DAY, True),  # no clock is set: nothing ages
        (1000.0, NOW, True),  # it is set now: what was stamped before begins to age
        (NOW + 9 * DAY, NOW, True),  # stamped in the future
    ],
)
async def test_age(db: Database, finished_at: float, now: float, kept: bool) -> None:
    inbox = Inbox(db, clock=lambda: finished_at)
    await inbox.accept(request("a"))
    await inbox.finish(request("a"), reply("a"))
    assert await inbox.purge(now) == (0 if kept else 1)
    assert (await inbox.status(request("a").key) is not None) == kept
    assert len(await Outbox(db).pending("mqtt")) == kept
    await inbox.purge(NOW)
    await inbox.purge(NOW + DAY)
    assert await inbox.status(request("a").key) is None


async def test_open_requests_are_never_forgotten(db: Database) -> None:
    inbox, one, two = Inbox(db, limit_reply_bytes=0, clock=lambda: NOW), request("a"), request("b")
    await inbox.accept(one)
    await inbox.escalate(two, interim("b", "t"), escalation(two, "t"))
    assert await inbox.purge(NOW + 1000 * DAY) == 0
    assert await inbox.counts() == {"queued": 1, "escalated": 1}
    assert await inbox.status(two.key) == ("escalated", None, interim("b", "t"))


async def test_bytes_are_bounded_and_the_undelivered_stay_longest(db: Database) -> None:
    inbox, outbox = Inbox(db, limit_reply_bytes=3500, clock=lambda: NOW), Outbox(db, lambda: NOW)
    for name in "abcd":
        await inbox.accept(request(name))
        await inbox.finish(request(name), reply(name, "x" * 1000))
    rows = await outbox.pending("mqtt")
    await outbox.delivered([rows[3].id])
    assert await inbox.purge(NOW) == 2
    kept = [name for name in "abcd" if await inbox.status(request(name).key)]
    assert kept == ["b", "c"]


async def test_old_events_and_escalations_go_with_the_rest(db: Database) -> None:
    inbox, one = Inbox(db, clock=lambda: NOW), request("a")
    await Outbox(db, lambda: NOW).emit(Event("timer", "rang", "1", "tea", NOW), ["mqtt"])
    await inbox.escalate(one, interim("a", "t"), escalation(one, "t"))
    await Escalations(db, lambda: NOW).finish("t", reply("a"))
    await inbox.purge(NOW + DAY)
    for table in ("inbox", "outbox", "escalations"):
        assert await db.read(f"SELECT * FROM {table}") == []
