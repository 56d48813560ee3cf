"""The cascade: which tier answers, what the cloud is told, what a session remembers."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from edged.domain.errors import BadRequest, CloudUnreachable, ConfigError, DeadlineExceeded, EngineCrashed, NotFound
from edged.domain.messages import Caller, Message, ReplyStatus, Tier, Usage
from edged.domain.ports import Completion
from edged.domain.resources import Agent, Phrasebook, ToolSpec
from edged.store.database import Database
from edged.store.sessions import Sessions

from .scripted import CALL, ORDER, STOCK, Model, Tools, ask, router, wanting

REFLEX: tuple[str, str, dict[str, Any]] = ("how many are there", "stock", {})
KIOSK = Agent("kiosk", "m", ("stock",), instructions="You help.", reflexes=(REFLEX,), memory=4)


async def test_a_pattern_answers_without_a_model(db: Database) -> None:
    tools, model = Tools(STOCK), Model()
    outcome = await router(db, KIOSK, tools, model).answer(ask(), None)
    reply = outcome.reply
    assert (reply.text, reply.tier, reply.status) == ("There are 3.", Tier.REFLEX, ReplyStatus.DONE)
    assert [stage.name for stage in reply.stages] == ["reflex", "tool:stock"]
    assert (tools.called, model.asked) == (["stock"], [])


async def test_a_plugins_patterns_serve_an_agent_that_has_the_tool(db: Database) -> None:
    stock = replace(STOCK, plugin="shop")
    shop = Phrasebook(
        (("how many are there", "order", {}), ("<count> them", "stock", {})), rules={"count": "zähl[e]"}, plugin="shop"
    )
    tools = Tools(stock, replace(ORDER, plugin="shop"))
    answering = router(db, KIOSK, tools, Model(CALL % "stock"), phrases=[shop])
    outcome = await answering.answer(ask("Zähle them"), None)
    assert (outcome.reply.tier, tools.called) == (Tier.REFLEX, ["stock"])
    await answering.answer(ask(), None)  # the agent's own pattern goes first
    assert tools.called == ["stock", "stock"]
    without = router(db, KIOSK, Tools(replace(STOCK, plugin="bar")), Model(CALL % "stock"), phrases=[shop])
    assert (await without.answer(ask("zähle them"), None)).reply.tier == Tier.MODEL


async def test_a_failing_tool_of_a_pattern_is_told(db: Database) -> None:
    tools = Tools(STOCK)
    tools.outcomes["stock"] = "the shelf is gone"
    outcome = await router(db, KIOSK, tools, Model()).answer(ask(), None)
    assert outcome.reply.text == "Sorry: the shelf is gone"


async def test_a_plugin_that_does_not_tell_its_tools_costs_the_deadline_and_no_more(db: Database) -> None:
    class Mute(Tools):
        async def specs(self, names: list[str]) -> list[ToolSpec]:
            await asyncio.Event().wait()
            raise AssertionError

    with pytest.raises(DeadlineExceeded):
        await router(db, KIOSK, Mute(), Model()).answer(ask(), time.monotonic() + 0.05)


async def test_the_model_is_next(db: Database) -> None:
    model = Model(CALL % "stock")
    outcome = await router(db, KIOSK, Tools(STOCK), model).answer(ask("count them"), 12.5)
    assert (outcome.reply.text, outcome.reply.tier, outcome.escalate) == ("There are 3.", Tier.MODEL, None)
    [asked] = model.asked
    assert (asked.model, asked.deadline_monotonic, asked.request_id) == ("m", 12.5, "http:till:r")
    assert [m.role for m in asked.messages] == ["system", "user"]
    assert asked.grammar


@pytest.mark.parametrize(
    ("tiers", "text", "escalate", "reason"),
    [
        (("reflex", "cloud"), "count them", False, "no_tool_fits"),
        (("model", "cloud"), "how many are there", False, "no_tool_fits"),  # its patterns are off: the model decides
        (("reflex", "model", "cloud"), "how many are there", True, "caller_asked"),
    ],
)
async def test_tiers_that_do_not_answer(
    db: Database, tiers: tuple[str, ...], text: str, escalate: bool, reason: str
) -> None:
    agent, tools = Agent("kiosk", "m", tiers=tiers, reflexes=(REFLEX,)), Tools(STOCK)
    outcome = await router(db, agent, tools, Model("<escalate>")).answer(ask(text, escalate=escalate), None)
    assert outcome.escalate is not None
    assert outcome.escalate.reason == reason
    assert tools.called == []


@pytest.mark.parametrize(
    ("agent", "cloud", "may"),
    [
        (Agent("kiosk", "m"), True, True),
        (Agent("kiosk", "m"), False, False),
        (Agent("kiosk", "m", local_only=True), True, False),
        (Agent("kiosk", "m", tiers=("model",)), True, False),
    ],
)
async def test_who_may_escalate(db: Database, agent: Agent, cloud: bool, may: bool) -> None:
    assert router(db, agent, Tools(), Model(), Model() if cloud else None).may_escalate(agent) is may


async def test_an_unknown_agent_and_a_bad_pattern_are_told(db: Database) -> None:
    with pytest.raises(NotFound) as caught:
        router(db, KIOSK, Tools(), Model()).agent("nobody")
    assert caught.value.fields["agents"] == ["kiosk"]
    with pytest.raises(ConfigError, match=r"shop/plugin.toml: rules.a"):
        router(db, KIOSK, Tools(), Model(), phrases=[Phrasebook(rules={"a": "["}, file="shop/plugin.toml")])
    with pytest.raises(ConfigError, match="half"):
        router(db, Agent("kiosk", "m", reflexes=(("(half", "stock", {}),)), Tools(), Model())


async def test_the_cloud_calls_tools_in_rounds(db: Database) -> None:
    tools = Tools(STOCK, ORDER)
    done = Completion(" There were 3, I ordered 3. ", "stop", Usage(50, 0, 5), model="far")
    cloud = Model(wanting("stock"), wanting("order", "stock"), done)
    reply = await router(db, KIOSK, tools, Model(), cloud).ask_cloud(ask())
    assert (reply.text, reply.tier, reply.model) == ("There were 3, I ordered 3.", Tier.CLOUD, "far")
    assert (reply.usage, tools.called) == (Usage(250, 0, 25), ["stock", "order", "stock"])
    assert [m.role for m in cloud.asked[-1].messages] == "system user assistant tool assistant tool tool".split()
    assert cloud.asked[0].grammar is None


async def test_a_cloud_that_never_ends_is_stopped(db: Database) -> None:
    agent = Agent("kiosk", "m", max_steps=2)
    cloud = Model(wanting("stock"), wanting("stock"))
    with pytest.raises(BadRequest) as caught:
        await router(db, agent, Tools(STOCK), Model(), cloud).ask_cloud(ask())
    assert caught.value.fields == {"reason": "too_many_steps"}


async def test_an_order_of_the_cloud_is_placed_once_over_attempts(db: Database) -> None:
    tools = Tools(ORDER)
    cloud = Model(wanting("order"), CloudUnreachable("gone"), wanting("order"), Completion("Done.", "stop"))
    way = router(db, KIOSK, tools, Model(), cloud)
    with pytest.raises(CloudUnreachable):
        await way.ask_cloud(ask())
    assert (await way.ask_cloud(ask())).text == "Done."
    assert tools.called == ["order"]


async def test_what_a_model_raises_is_the_callers(db: Database) -> None:
    with pytest.raises(EngineCrashed):
        await router(db, KIOSK, Tools(STOCK), Model(EngineCrashed("x"))).answer(ask("count"), None)


async def test_a_session_remembers_and_keeps_callers_apart(db: Database) -> None:
    model = Model(CALL % "stock", CALL % "stock", CALL % "stock")
    way = router(db, KIOSK, Tools(STOCK), model)
    await way.answer(ask("count them", session="s"), None)
    await way.answer(ask("again", session="s"), None)
    assert [m.content for m in model.asked[1].messages] == ["You help.", "count them", "There are 3.", "again"]
    await way.answer(ask("and I?"), None)
    assert [m.content for m in model.asked[2].messages] == ["You help.", "and I?"]
    assert await Sessions(db).load("s", "somebody else", 9) == []


async def test_a_session_forgets_what_is_too_much_and_what_failed(db: Database) -> None:
    sessions, model = Sessions(db), Model("<escalate>")
    await sessions.append("s", Caller("till").id, [Message("user", "x" * 1500), Message("assistant", "y" * 1500)])
    await router(db, KIOSK, Tools(STOCK), model).answer(ask("more", session="s"), None)
    assert [m.content for m in model.asked[0].messages] == ["You help.", "y" * 1500, "more"]
    assert len(await sessions.load("s", "till", 9)) == 2
