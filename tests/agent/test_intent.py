"""The decision, by tables: what the reader saw in, what is done out."""

from __future__ import annotations

from typing import Any

import pytest

from edged.agent.cards import card
from edged.agent.intent import Act, AskBack, NoTool, PassOn, decide
from edged.domain.resources import Grounding, ToolSpec

LIGHT = ToolSpec(
    "switch",
    "Switch a device",
    {
        "type": "object",
        "properties": {"device": {"type": "string"}, "state": {"type": "string", "enum": ["on", "off"]}},
        "required": ["device", "state"],
    },
    grounding={"device": Grounding("choice", ("kitchen light", "desk lamp"))},
)
TIMER = ToolSpec(
    "set_timer",
    "Start a timer",
    {
        "type": "object",
        "properties": {"minutes": {"type": "integer"}, "label": {"type": "string"}},
        "required": ["minutes"],
    },
    grounding={"minutes": Grounding("number"), "label": Grounding("span")},
)
ROUTE = ToolSpec(
    "route",
    "Find a way",
    {
        "type": "object",
        "properties": {"origin": {"type": "string"}, "destination": {"type": "string"}},
        "required": ["origin", "destination"],
    },
    grounding={"origin": Grounding("span"), "destination": Grounding("span")},
)
PHOTO = ToolSpec(
    "tag",
    "Tag a photo",
    {"type": "object", "properties": {"tags": {"type": "array"}}, "required": ["tags"]},
)
SPECS = [LIGHT, TIMER, ROUTE, PHOTO]


def seen(tool: ToolSpec, act: float, slots: list[dict[str, Any]], part: float = -9.0) -> dict[str, Any]:
    return {"index": SPECS.index(tool), "act": act, "part": part, "about": 0.5, "example": -1.0, "slots": slots}


def at(text: str, words: str, chance: float = 0.99) -> dict[str, Any]:
    begin = text.index(words)
    return {"spans": [(begin, begin + len(words), chance)], "absent": 1 - chance}


UNSAID = {"spans": [], "absent": 0.99}
ON, OFF, NEITHER = ({"options": options} for options in ([0.98, 0.01, 0.01], [0.01, 0.98, 0.01], [0.01, 0.01, 0.98]))


def run(text: str, *tools: dict[str, Any], cut: bool = False) -> Any:
    return decide(text, tools, [card(spec) for spec in SPECS], SPECS, cut=cut)


def test_a_sure_call_is_made() -> None:
    text = "make the kitchn lights go dark"
    decided = run(text, seen(LIGHT, 9.0, [at(text, "kitchn lights"), OFF]), seen(TIMER, -5.0, [UNSAID, UNSAID]))
    assert isinstance(decided, Act)
    assert (decided.call.name, decided.call.arguments) == ("switch", {"device": "kitchen light", "state": "off"})
    assert decided.sure > 0.9


@pytest.mark.parametrize(
    ("text", "pointed", "value"),
    [
        ("a timer for twenty five minutes", "twenty five", 25),
        ("a timer for 12 minutes please", "12", 12),
        ("a timer for 12 minutes please", "for 12 minutes", 12),  # a span too wide holds the number all the same
        ("12 minutes on the clock", "minutes", 12),  # one beside it is mended by the only number there is
    ],
)
def test_numbers_are_those_that_the_sentence_states(text: str, pointed: str, value: int) -> None:
    decided = run(text, seen(TIMER, 9.0, [at(text, pointed), UNSAID]))
    assert isinstance(decided, Act)
    assert decided.call.arguments == {"minutes": value}


def test_what_is_required_and_not_said_is_asked() -> None:
    decided = run("turn on the light over there", seen(LIGHT, 9.0, [UNSAID, ON]))
    assert decided == AskBack("switch", {"state": "on"}, ("device",))


def test_a_listed_value_must_be_mentioned() -> None:
    text = "turn on the chandelier"
    decided = run(text, seen(LIGHT, 9.0, [at(text, "chandelier"), ON]))
    assert isinstance(decided, AskBack | PassOn)


def test_words_serve_one_parameter() -> None:
    text = "from ulm to bern"
    origin = {"spans": [(5, 8, 0.9), (12, 16, 0.05)], "absent": 0.05}
    both = {"spans": [(5, 8, 0.5), (12, 16, 0.45)], "absent": 0.05}
    decided = run(text, seen(ROUTE, 9.0, [origin, both]))
    values = decided.call.arguments if isinstance(decided, Act) else {}
    assert values in ({}, {"origin": "ulm", "destination": "bern"})  # never ulm twice


@pytest.mark.parametrize(
    ("tools", "kind"),
    [
        ([seen(LIGHT, -6.0, [UNSAID, NEITHER]), seen(TIMER, -7.0, [UNSAID, UNSAID])], NoTool),
        ([seen(LIGHT, 0.4, [UNSAID, NEITHER]), seen(TIMER, 0.3, [UNSAID, UNSAID])], PassOn),
        ([seen(LIGHT, 2.0, [UNSAID, ON], part=8.0), seen(TIMER, 1.0, [UNSAID, UNSAID], part=7.0)], PassOn),
        ([seen(PHOTO, 9.0, [])], PassOn),
    ],
    ids=["none", "torn", "two things", "a list to fill"],
)
def test_what_is_not_clear_is_not_done(tools: list[dict[str, Any]], kind: type) -> None:
    assert isinstance(run("whatever", *tools), kind)


def test_two_things_at_once_are_told() -> None:
    tools = [seen(LIGHT, 2.0, [UNSAID, ON], part=8.0), seen(TIMER, 1.0, [UNSAID, UNSAID], part=7.0)]
    assert run("light on and a timer", *tools) == PassOn(("switch", "set_timer"), several=True)


def test_a_sentence_too_long_to_be_read_is_passed_on() -> None:
    text = "make the kitchen light dark"
    assert isinstance(run(text, seen(LIGHT, 9.0, [at(text, "kitchen light"), OFF]), cut=True), PassOn)


def test_nothing_to_choose_from() -> None:
    assert run("hello") == NoTool(1.0)
