"""The decision, by tables: what the reader saw in, what is done out."""

from __future__ import annotations

from dataclasses import replace
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
ORDER = ToolSpec(
    "order",
    "Order a product",
    {
        "type": "object",
        "properties": {"product": {"type": "string"}, "quantity": {"type": "integer"}},
        "required": ["product"],
    },
    grounding={"product": Grounding("choice", ("power bank",)), "quantity": Grounding("number")},
)
SPECS = [LIGHT, TIMER, ROUTE, PHOTO, ORDER]


def seen(tool: ToolSpec, act: float, slots: list[dict[str, Any]], part: float = -9.0) -> dict[str, Any]:
    return {"index": SPECS.index(tool), "act": act, "part": part, "like": 0.0, "llr": 0.0, "slots": slots}


def at(text: str, words: str, *values: Any, chance: float = 0.99) -> dict[str, Any]:
    """The reader points at `words`, which mean `values`."""
    begin = text.index(words)
    return {"spans": [(begin, begin + len(words), chance, values)], "absent": 1 - chance, "stated": []}


def beside(text: str, words: str, *values: Any, absent: float = 0.4) -> dict[str, Any]:
    """The reader points at nothing, and the sentence has `words`, which mean `values`."""
    begin = text.index(words)
    return {"spans": [], "absent": absent, "stated": [(begin, begin + len(words), values)]}


UNSAID: dict[str, Any] = {"spans": [], "absent": 0.99, "stated": []}
ON, OFF, NEITHER = ({"options": options} for options in ([0.98, 0.01, 0.01], [0.01, 0.98, 0.01], [0.01, 0.01, 0.98]))


def run(*tools: dict[str, Any], cut: bool = False) -> Any:
    return decide(tools, [card(spec) for spec in SPECS], SPECS, cut=cut)


def test_a_sure_call_is_made() -> None:
    text = "make the kitchn lights go dark"
    light = seen(LIGHT, 9.0, [at(text, "kitchn lights", "kitchen light"), OFF])
    decided = run(light, seen(TIMER, -5.0, [UNSAID, UNSAID]))
    assert isinstance(decided, Act)
    assert (decided.call.name, decided.call.arguments) == ("switch", {"device": "kitchen light", "state": "off"})
    assert decided.sure > 0.9


def test_one_that_is_stated_beside_what_is_pointed_at() -> None:
    decided = run(seen(TIMER, 9.0, [beside("12 minutes on the clock", "12", 12, absent=0.1), UNSAID]))
    assert isinstance(decided, Act)
    assert decided.call.arguments == {"minutes": 12}


def test_two_that_are_stated_are_no_choice() -> None:
    stated = [(0, 2, [12]), (4, 6, [15])]
    decided = run(seen(TIMER, 9.0, [{"spans": [], "absent": 0.1, "stated": stated}, UNSAID]))
    assert not isinstance(decided, Act)


def test_a_number_that_is_stated_is_heeded_though_it_is_optional() -> None:
    text = "order two power banks"
    product = at(text, "power banks", "power bank")
    decided = run(seen(ORDER, 9.0, [product, beside(text, "two", 2, absent=0.3)]))
    assert isinstance(decided, Act)
    assert decided.call.arguments == {"product": "power bank", "quantity": 2}
    assert not isinstance(run(seen(ORDER, 9.0, [product, beside(text, "power banks", 2, absent=0.3)])), AskBack)


def test_what_is_required_and_not_said_is_asked() -> None:
    decided = run(seen(LIGHT, 9.0, [UNSAID, ON]))
    assert decided == AskBack("switch", {"state": "on"}, ("device",))


@pytest.mark.parametrize(
    ("pointed", "asked"),
    [
        ("lamp", AskBack("switch", {"state": "on"}, ("device",), ("desk lamp", "floor lamp"))),
        (None, AskBack("switch", {"state": "on"}, ("device",), ("desk lamp", "floor lamp"))),
    ],
    ids=["pointed at", "stated"],
)
def test_a_choice_that_is_left_open_is_asked(pointed: str | None, asked: AskBack) -> None:
    text, names = "turn on the lamp", ("desk lamp", "floor lamp")
    device = at(text, pointed, *names) if pointed else beside(text, "lamp", *names, absent=0.1)
    assert run(seen(LIGHT, 9.0, [device, ON])) == asked


def test_an_open_choice_is_asked_though_it_is_optional() -> None:
    text = "12 minutes for the eggs"
    decided = run(seen(TIMER, 9.0, [at(text, "12", 12), at(text, "eggs", "fried eggs", "boiled eggs")]))
    assert decided == AskBack("set_timer", {"minutes": 12}, ("label",), ("fried eggs", "boiled eggs"))


def test_what_is_pointed_at_must_be_a_value() -> None:
    decided = run(seen(LIGHT, 9.0, [at("turn on the chandelier", "chandelier"), ON]))
    assert isinstance(decided, PassOn) and decided.guess is None
    assert decided.lacks == AskBack("switch", {"state": "on"}, ("device",))
    chandelier = at("turn on the chandelier", "chandelier")
    doubtful = run(seen(LIGHT, 0.4, [chandelier, ON]), seen(TIMER, 0.3, [UNSAID, UNSAID]))
    assert isinstance(doubtful, PassOn) and doubtful.lacks is None


def test_words_serve_one_parameter() -> None:
    origin = {"spans": [(5, 8, 0.9, ["ulm"]), (12, 16, 0.05, ["bern"])], "absent": 0.05, "stated": []}
    both = {"spans": [(5, 8, 0.5, ["ulm"]), (12, 16, 0.45, ["bern"])], "absent": 0.05, "stated": []}
    decided = run(seen(ROUTE, 9.0, [origin, both]))
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
    assert isinstance(run(*tools), kind)


def test_two_things_at_once_are_told() -> None:
    tools = [seen(LIGHT, 2.0, [UNSAID, ON], part=8.0), seen(TIMER, 1.0, [UNSAID, UNSAID], part=7.0)]
    assert run(*tools) == PassOn(("switch", "set_timer"), several=True)


def test_a_sentence_too_long_to_be_read_is_passed_on() -> None:
    text = "make the kitchen light dark"
    assert isinstance(run(seen(LIGHT, 9.0, [at(text, "kitchen light", "kitchen light"), OFF]), cut=True), PassOn)


def test_nothing_to_choose_from() -> None:
    assert run() == NoTool(1.0)


@pytest.mark.parametrize(("idempotent", "made"), [(True, True), (False, False)], ids=["harmless", "an order"])
def test_what_cannot_be_taken_back_needs_more_certainty(idempotent: bool, made: bool) -> None:
    text = "about a power bank"
    spec = replace(ORDER, idempotent=idempotent)
    tool = {**seen(ORDER, 0.5, [at(text, "power bank", "power bank"), UNSAID]), "index": 0}  # 0.62 against none
    decided = decide([tool], [card(spec)], [spec])
    assert isinstance(decided, Act if made else PassOn)
    assert made or (isinstance(decided, PassOn) and decided.guess is not None)
