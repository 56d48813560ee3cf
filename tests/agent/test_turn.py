"""The turn as a table: what the model or the tools say, and what is done next."""

from __future__ import annotations

import pytest

from edged.agent import turn
from edged.agent.dialect import DIALECTS
from edged.domain.messages import FinishReason, Tier, ToolCall, ToolResult
from edged.domain.ports import Completion
from edged.domain.resources import Agent, ToolSpec

STOCK = ToolSpec("stock", "d", {"type": "object", "properties": {}}, say="There are {n}.", say_error="Sorry: {error}.")
PLAIN = ToolSpec("plain", "d", {"type": "object", "properties": {}})
CALL = '<tool_call>{"name":"%s","arguments":{}}</tool_call>'


def begun(tier: Tier = Tier.MODEL, steps: int = 4, specs: tuple[ToolSpec, ...] = (STOCK, PLAIN)) -> turn.Transcript:
    agent = Agent("a", "m", max_steps=steps)
    transcript, step = turn.begin(turn.Transcript(agent, "how many?", specs, DIALECTS["edged"], tier))
    assert isinstance(step, turn.Generate)
    return transcript


def said(text: str, finish: FinishReason = "stop", calls: tuple[ToolCall, ...] = ()) -> Completion:
    return Completion(text, finish, tool_calls=calls)


@pytest.mark.parametrize(
    ("text", "finish", "reason"),
    [
        ("<escalate>", "stop", "no_tool_fits"),
        ('<tool_call>{"name":"stock","missing":["x_y"]}</tool_call>', "stop", "missing_argument"),
        ("<tool_call>{broken</tool_call>", "stop", "malformed"),
        ("chatter", "stop", "malformed"),
        (CALL % "stock", "length", "malformed"),
    ],
)
def test_what_escalates(text: str, finish: FinishReason, reason: str) -> None:
    _, step = turn.on_generated(begun(), said(text, finish))
    assert isinstance(step, turn.Escalate)
    assert step.reason == reason


def test_without_tools_a_model_of_use_just_answers() -> None:
    agent = Agent("a", "m", instructions="Be brief.")
    transcript, step = turn.begin(turn.Transcript(agent, "hi", (), DIALECTS["hermes"]))
    assert isinstance(step, turn.Generate)
    assert (step.grammar, step.spoken, step.fixed) == (None, True, 1)
    assert [message.content for message in step.messages] == ["Be brief.", "hi"]  # no word of tools that there are not
    _, end = turn.on_generated(transcript, said(" Hello. "))
    assert end == turn.Answer("Hello.")


def test_no_tools_escalates_at_once() -> None:
    _, step = turn.begin(turn.Transcript(Agent("a", "m"), "hi", (), DIALECTS["edged"]))
    assert isinstance(step, turn.Escalate)


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (ToolResult("call-1-0", "stock", True, content={"n": 4}), "There are 4."),
        (ToolResult("call-1-0", "stock", False, error="closed"), "Sorry: closed."),
    ],
)
def test_a_template_answers_without_another_generation(result: ToolResult, text: str) -> None:
    transcript, step = turn.on_generated(begun(), said(CALL % "stock"))
    assert step == turn.CallTools((ToolCall("call-1-0", "stock", {}),))
    _, step = turn.on_results(transcript, [result])
    assert step == turn.Answer(text)


@pytest.mark.parametrize(("words", "answer"), [("It is 4.", "It is 4."), ("It is 5.", "n: 4"), ("", "n: 4")])
def test_the_model_words_a_result_but_invents_nothing(words: str, answer: str) -> None:
    transcript, _ = turn.on_generated(begun(), said(CALL % "plain"))
    transcript, step = turn.on_results(transcript, [ToolResult("call-1-0", "plain", True, content={"n": 4})])
    assert isinstance(step, turn.Generate)
    assert step.messages[-1].role == "tool"
    assert step.messages[-1].content == '{"n":4}'
    _, step = turn.on_generated(transcript, said(words))
    assert step == turn.Answer(answer)


def test_out_of_steps_says_the_bare_result() -> None:
    transcript, _ = turn.on_generated(begun(steps=1), said(CALL % "plain"))
    _, step = turn.on_results(transcript, [ToolResult("call-1-0", "plain", True, content={"n": 4})])
    assert step == turn.Answer("n: 4")


def test_the_cloud_may_call_tools_in_rounds_and_answers_freely() -> None:
    calls = (ToolCall("x", "stock", {}), ToolCall("y", "plain", {}))
    transcript, step = turn.on_generated(begun(Tier.CLOUD), said("", "tool_calls", calls))
    assert step == turn.CallTools(calls)
    results = [ToolResult("x", "stock", True, content={"n": 1}), ToolResult("y", "plain", False, error="no")]
    transcript, step = turn.on_results(transcript, results)
    assert isinstance(step, turn.Generate)
    assert step.grammar is None
    assert [m.tool_call_id for m in step.messages if m.role == "tool"] == ["x", "y"]
    _, step = turn.on_generated(transcript, said(" All done. "))
    assert step == turn.Answer("All done.")


def test_the_cloud_is_bounded() -> None:
    transcript, _ = turn.on_generated(begun(Tier.CLOUD, steps=1), said("", "tool_calls", (ToolCall("x", "stock", {}),)))
    _, step = turn.on_results(transcript, [ToolResult("x", "stock", True, content={"n": 1})])
    assert isinstance(step, turn.Escalate)
    assert step.reason == "too_many_steps"
