"""One turn over a real record of effects: what is called, what is counted, and what is never done twice."""

from __future__ import annotations

import asyncio

import pytest

from edged.agent.dialect import DIALECTS
from edged.agent.runner import Outcome, Runner
from edged.agent.turn import Transcript
from edged.domain.messages import ReplyStatus, Tier, ToolCall, Usage
from edged.domain.resources import Agent, ToolSpec
from edged.store.database import Database
from edged.store.effects import Effects

from .scripted import CALL, NOTHING, ORDER, STOCK, Model, Tools, ask

PLAIN = ToolSpec("plain", "No template", NOTHING)


async def run(db: Database, tools: Tools, model: Model, *specs: ToolSpec, tier: Tier = Tier.MODEL) -> Outcome:
    transcript = Transcript(Agent("kiosk", "m"), "do it", specs, DIALECTS["edged"], tier)
    return await Runner(tools, Effects(db)).run(ask(), transcript, model)


async def test_a_reply_tells_what_it_cost(db: Database) -> None:
    outcome = await run(db, Tools(STOCK), Model(CALL % "stock"), STOCK)
    reply = outcome.reply
    assert (reply.text, reply.status, reply.usage, reply.model) == (
        "There are 3.",
        ReplyStatus.DONE,
        Usage(10, 2, 3),
        "m",
    )
    assert [(s.name, s.seconds) for s in reply.stages] == [("prefill", 0.25), ("decode", 0.5), ("tool:stock", 0.125)]
    assert [(c.name, r.content) for c, r in zip(reply.tool_calls, reply.tool_results, strict=True)] == [
        ("stock", {"n": 3})
    ]


@pytest.mark.parametrize(("said", "text"), [("There are 3 left.", "There are 3 left."), ("There are 4.", "n: 3")])
async def test_a_result_without_a_template_is_worded_if_faithfully(db: Database, said: str, text: str) -> None:
    model = Model(CALL % "plain", said)
    outcome = await run(db, Tools(PLAIN), model, PLAIN)
    assert (outcome.reply.text, outcome.reply.usage) == (text, Usage(20, 4, 6))


async def test_an_escalation_keeps_what_was_spent(db: Database) -> None:
    outcome = await run(db, Tools(STOCK), Model("<escalate>"), STOCK)
    assert outcome.escalate is not None
    assert outcome.reply.usage == Usage(10, 2, 3)


async def test_an_effect_is_had_once_and_its_result_kept(db: Database) -> None:
    tools = Tools(ORDER)
    texts = [(await run(db, tools, Model(CALL % "order"), ORDER)).reply.text for _ in range(2)]
    assert (texts, tools.called) == (["Ordered 3."] * 2, ["order"])


async def test_an_interrupted_effect_is_reported_and_never_run_again(db: Database) -> None:
    await Effects(db).begin(ask().key, 0, ToolCall("x", "order", {}))  # and then the daemon was killed
    tools = Tools(ORDER)
    outcome = await run(db, tools, Model(CALL % "order"), ORDER)
    assert "interrupted" in outcome.reply.text
    assert (tools.called, outcome.reply.tool_results[0].ok) == ([], False)


async def test_what_may_be_repeated_is(db: Database) -> None:
    tools = Tools(STOCK)
    for _ in range(2):
        await run(db, tools, Model(CALL % "stock"), STOCK)
    assert tools.called == ["stock", "stock"]


async def test_a_tool_that_is_not_there_is_an_error_to_the_model(db: Database) -> None:
    tools = Tools(STOCK)
    outcome = await run(db, tools, Model(CALL % "ghost"), STOCK)
    assert "ghost" in outcome.reply.text
    assert tools.called == []


async def test_an_effect_that_has_begun_is_recorded_though_the_caller_left(db: Database) -> None:
    began, gate, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class Slow(Tools):
        async def call(self, *args: object, **more: object) -> object:  # type: ignore[override]
            began.set()
            await gate.wait()
            return await super().call(*args, **more)  # type: ignore[arg-type]

    class Telling(Effects):
        async def end(self, request_key: str, index: int, result: object) -> None:
            await super().end(request_key, index, result)  # type: ignore[arg-type]
            ended.set()

    slow = Slow(ORDER)
    runner = Runner(slow, Telling(db))  # type: ignore[arg-type]
    call = ToolCall("c", "order", {})
    task = asyncio.ensure_future(runner.call(ask(), [ORDER], [call], 0, None))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.set()
    await ended.wait()
    [again] = await runner.call(ask(), [ORDER], [call], 0, None)
    assert (again.ok, again.content, slow.called) == (True, {"n": 3}, ["order"])
