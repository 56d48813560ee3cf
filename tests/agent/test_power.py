"""While power is saved: what still answers, what is refused, and that a durable request waits instead of failing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from edged.agent.intent import Act, Decision
from edged.agent.reader import Reader
from edged.device.energy import Bill
from edged.domain.errors import EngineCrashed, PowerSaving
from edged.domain.messages import Priority, ReplyStatus, Tier, ToolCall
from edged.domain.power import Energy
from edged.domain.resources import Agent
from edged.store.database import Database

from .desk import CALLER, Clock, Scripted, site
from .desk import ask as durable
from .scripted import CALL, STOCK, Model, Tools, ask, router

KIOSK = Agent("kiosk", "m", ("stock",), reflexes=(("how many are there", "stock", {}),))
REST = PowerSaving("The model rests.", retry_after=60.0)


class Sure(Reader):
    """An intent tier that always means the stock."""

    def __init__(self) -> None:
        pass

    async def read(self, *_: Any) -> Decision:
        return Act(ToolCall("call-0", "stock", {}), 1.0)


def resting(priority: Priority) -> PowerSaving | None:
    return None if priority is Priority.HIGH else REST


async def test_a_model_rests_but_for_what_is_urgent(db: Database) -> None:
    model = Model(CALL % "stock")
    way = router(db, KIOSK, Tools(STOCK), model, saving=resting)
    with pytest.raises(PowerSaving) as caught:
        await way.answer(ask("count them"), None)
    assert caught.value is REST
    assert model.asked == []
    outcome = await way.answer(ask("count them", priority=Priority.HIGH), None)
    assert outcome.reply.tier is Tier.MODEL


async def test_patterns_answer_all_the_same(db: Database) -> None:
    outcome = await router(db, KIOSK, Tools(STOCK), Model(), saving=resting).answer(ask(), None)
    assert (outcome.reply.tier, outcome.reply.text) == (Tier.REFLEX, "There are 3.")


async def test_intent_answers_and_words_a_result_without_the_model(db: Database) -> None:
    model, tools = Model("There are 3 of them."), Tools(replace(STOCK, say=None))
    way = router(db, KIOSK, tools, model, saving=resting, reader=cast(Reader, Sure()))
    outcome = await way.answer(ask("count them"), None)
    assert (outcome.reply.tier, outcome.reply.status, tools.called) == (Tier.INTENT, ReplyStatus.DONE, ["stock"])
    assert "3" in outcome.reply.text
    assert model.asked == []


async def test_a_bill_goes_with_the_reply(db: Database) -> None:
    @contextmanager
    def billing(agent: str) -> Iterator[Bill]:
        bill = Bill(agent)
        yield bill
        bill.energy = Energy(0.25, "estimated")

    outcome = await router(db, KIOSK, Tools(STOCK), Model(), billing=billing).answer(ask(), None)
    assert outcome.reply.energy == Energy(0.25, "estimated")


async def test_a_durable_request_waits_for_power_as_long_as_it_may(tmp_path: Path) -> None:
    """Being held back is no attempt: five are all that a request has."""
    clock = Clock(tick=2.0)
    router = Scripted(*[PowerSaving("rests", retry_after=1.0)] * 12, "Three.")
    async with site(tmp_path, router, clock=clock) as here:
        await here.dispatcher.accept(durable(at=clock.now, deadline=clock.now + 5000))
        reply = await here.dispatcher.lookup("r", CALLER, 15)
        assert reply is not None
        assert (reply.status, reply.text, len(router.asked)) == (ReplyStatus.DONE, "Three.", 13)
        assert await here.inbox.attempts(durable().key) == 1


async def test_a_last_attempt_is_not_lost_to_power(tmp_path: Path) -> None:
    clock, acts = Clock(tick=2.0), [*[EngineCrashed("crashed")] * 4, *[PowerSaving("rests", retry_after=1.0)] * 2]
    router = Scripted(*acts, "Three.")
    async with site(tmp_path, router, clock=clock) as here:
        await here.dispatcher.accept(durable(at=clock.now, deadline=clock.now + 5000))
        reply = await here.dispatcher.lookup("r", CALLER, 15)
        assert reply is not None
        assert (reply.text, len(router.asked)) == ("Three.", 7)


async def test_one_that_cannot_wait_so_long_is_told_why(tmp_path: Path) -> None:
    async with site(tmp_path, Scripted(REST)) as here:
        await here.dispatcher.accept(durable(deadline=time.time() + 20))
        reply = await here.dispatcher.lookup("r", CALLER, 10)
        assert reply is not None
        assert reply.error == {"code": "power_saving", "detail": "The model rests.", "retry_after": 60.0}
