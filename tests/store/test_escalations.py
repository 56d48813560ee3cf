"""The queue to the cloud: oldest first, backing off, expiring, answered once."""

from __future__ import annotations

import asyncio

import pytest

from edged.domain.errors import CloudUnreachable, NotFound
from edged.store.database import Database
from edged.store.escalations import Escalation, Escalations
from edged.store.inbox import Inbox
from edged.store.outbox import Outbox

from .words import NOW, escalation, failed, interim, reply, request

OFFLINE = CloudUnreachable("no route")


async def queue(db: Database, names: str, expires_at: float = NOW + 3600) -> Escalations:
    """One escalation a letter; the ticket of "a" is "ta"."""
    for name in names:
        one = request(name)
        await Inbox(db).escalate(one, interim(name, f"t{name}"), escalation(one, f"t{name}", expires_at=expires_at))
    return Escalations(db, lambda: NOW)


async def test_oldest_first_and_its_place_in_the_queue(db: Database) -> None:
    escalations = await queue(db, "abc")
    assert [await escalations.position(ticket) for ticket in ("ta", "tb", "tc")] == [0, 1, 2]
    first = await escalations.lease(NOW, 60)
    assert first == Escalation("ta", request("a"), NOW, NOW + 3600, "leased", 1, NOW + 60)
    assert await escalations.finish("ta", reply("a"))
    assert await escalations.position("tc") == 1
    second = await escalations.lease(NOW, 60)
    assert second is not None
    assert second.ticket == "tb"
    assert await escalations.counts() == {"done": 1, "leased": 1, "waiting": 1}
    for ticket in ("ta", "unknown"):
        with pytest.raises(NotFound):
            await escalations.position(ticket)


async def test_back_off_lets_others_pass(db: Database) -> None:
    escalations = await queue(db, "ab")
    await escalations.lease(NOW, 60)
    await escalations.release("ta", OFFLINE, NOW + 100)
    leased = await escalations.lease(NOW, 60)
    assert leased is not None
    assert leased.ticket == "tb"
    assert await escalations.lease(NOW + 59, 60) is None
    assert await escalations.next_due(NOW) == NOW + 60
    await escalations.finish("tb", reply("b"))
    assert await escalations.next_due(NOW) == NOW + 100
    again = await escalations.lease(NOW + 100, 60)
    assert again is not None
    assert (again.attempts, again.last_error) == (2, "cloud_unreachable: no route")


async def test_an_expiring_one_comes_up_in_time(db: Database) -> None:
    escalations = await queue(db, "a", expires_at=NOW + 50)
    await escalations.lease(NOW, 10)
    await escalations.release("ta", OFFLINE, NOW + 300)
    assert await escalations.next_due(NOW) == NOW + 50
    assert await escalations.lease(NOW + 50, 10) is not None


async def test_hurry_ends_the_back_off(db: Database) -> None:
    escalations = await queue(db, "a")
    await escalations.lease(NOW, 10)
    await escalations.release("ta", OFFLINE, NOW + 300)
    seen = escalations.version()
    await escalations.hurry()
    assert await asyncio.wait_for(escalations.wait_changed(seen), 5) == seen + 1
    assert await escalations.lease(NOW, 10) is not None


async def test_answered_once(db: Database) -> None:
    escalations = await queue(db, "a")
    results = await asyncio.gather(
        escalations.finish("ta", reply("a", "first")),
        escalations.finish("ta", reply("a", "second")),
        escalations.dead("ta", "expired", failed("a")),
        Inbox(db).finish(request("a"), reply("a", "local")),
        escalations.finish("unknown", reply("a")),
    )
    assert sorted(results) == [False, False, False, False, True]
    finals = [row.body["text"] for row in await Outbox(db).pending("mqtt") if row.kind == "final"]
    assert finals == [("first", "second", "", "local")[results.index(True)]]
    assert await escalations.next_due(NOW) is None


async def test_the_dead_are_answered_too(db: Database) -> None:
    escalations = await queue(db, "a")
    assert await escalations.dead("ta", "escalation_expired", failed("a"))
    assert not await escalations.finish("ta", reply("a"))
    found = await escalations.get("ta")
    assert found is not None
    assert (found.state, found.last_error) == ("dead", "escalation_expired")
    status = await Inbox(db).status(request("a").key)
    assert status is not None
    assert (status[0], status[1]) == ("done", failed("a"))


async def test_recover_frees_leases(db: Database) -> None:
    escalations = await queue(db, "ab")
    await escalations.lease(NOW, 1e6)
    assert await escalations.recover() == 1
    leased = await escalations.lease(NOW, 60)
    assert leased is not None
    assert (leased.ticket, leased.attempts) == ("ta", 2)
