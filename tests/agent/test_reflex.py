"""Sentence patterns: certain or silent, in several languages."""

from __future__ import annotations

import statistics
import time
from typing import Any

import pytest

from edged.agent.reflex import compile_book, compile_reflex, match
from edged.domain.errors import ConfigError
from edged.domain.resources import Grounding, Phrasebook, ToolSpec

SWITCH = ToolSpec(
    "switch",
    "d",
    {
        "type": "object",
        "properties": {
            "device": {"type": "string"},
            "state": {"enum": ["on", "off"]},
            "percent": {"type": "integer", "minimum": 0, "maximum": 100},
            "soft": {"type": "boolean"},
        },
        "required": ["device", "state"],
    },
    plugin="home",
    grounding={"device": Grounding("choice", ("kitchen light", "fan", "fan heater", "TV (old)", "x_1 lamp"))},
)
NOTE = ToolSpec(
    "note",
    "d",
    {
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "who": {"type": "string"},
            "minutes": {"type": "number", "minimum": 1, "maximum": 90},
            "level": {"enum": [1, 2]},
            "pet": {"type": "string"},
        },
    },
    grounding={"pet": Grounding("choice", ())},
)
SPECS = {"switch": SWITCH, "note": NOTE}


def book(*patterns: str, tool: str = "switch", **rest: Any) -> Phrasebook:
    return Phrasebook(tuple((pattern, tool, {}) for pattern in patterns), **rest)


REFLEXES = [
    compile_reflex("(turn|switch) {state} [the] {device}", "switch", {}),
    compile_reflex("[the] {device} {state} [at {percent} percent] [please]", "switch", {}),
    compile_reflex("lights out", "switch", {"device": "kitchen light", "state": "off"}),
    compile_reflex("broken {device}", "missing_tool", {}),
]


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("turn on the kitchen light", {"device": "kitchen light", "state": "on"}),
        ("Switch OFF fan!", {"device": "fan", "state": "off"}),
        ("the kitchen light off", {"device": "kitchen light", "state": "off"}),
        ("fan heater on", {"device": "fan heater", "state": "on"}),
        ("turn on the tv (OLD)", {"device": "TV (old)", "state": "on"}),
        ("turn  on\nx_1 lamp ?!", {"device": "x_1 lamp", "state": "on"}),
        ("fan on at twenty percent please", {"device": "fan", "state": "on", "percent": 20}),
        ("fan on at twenty-five percent", {"device": "fan", "state": "on", "percent": 25}),
        ("fan on at 100 percent", {"device": "fan", "state": "on", "percent": 100}),
        ("fan on at 101 percent", None),
        ("fan on at 20.5 percent", None),
        ("fan on at 1.2.3 percent", None),
        ("fan on at some 20 percent", None),
        ("fan on at full percent", None),
        ("Lights out.", {"device": "kitchen light", "state": "off"}),
        ("lights outside", None),
        ("the lights out", None),
        ("turn on the moon", None),
        ("turn on the kitchen light and the fan", None),
        ("turn on thefan", None),
        ("turn onfan", None),
        ("turn on kitchenlight", None),
        ("turn on x 1 lamp", None),
        ("turn up the fan", None),
        ("broken fan", None),
        ("", None),
        (" ?", None),
        ("turn on the fan" + " " * 300, None),
    ],
)
def test_match(text: str, arguments: dict[str, Any] | None) -> None:
    call = match(REFLEXES, text, SPECS)
    assert (call.arguments if call else None) == arguments


@pytest.mark.parametrize(
    ("pattern", "text", "arguments"),
    [
        ("remind me to {text}", "Remind me to buy half-fat milk, eggs.", {"text": "buy half-fat milk, eggs"}),
        ("remind me to {text}", "remind me to", None),
        ("remind me to {text} [please]", "remind me to go please", {"text": "go"}),
        ("remind me to {text} [please]", "remind me to go overplease", {"text": "go overplease"}),
        (
            "remind me to {text} in {minutes} minutes",
            "remind me to put it in the oven in 5 minutes",
            {"text": "put it in the oven", "minutes": 5},
        ),
        ("in {minutes} minutes {text}", "in 1,5 minutes call 5 people", {"minutes": 1.5, "text": "call 5 people"}),
        ("in {minutes}[%]", "in 20%", {"minutes": 20}),
        ("tell {who} that {text}", "tell Ann that Bob said that", {"who": "Ann", "text": "Bob said that"}),
        ("level {level}", "level 2", {"level": 2}),
        ("level {level}", "level 3", None),
        ("feed {pet}", "feed rex", None),  # none can be chosen now
        ("say {other}", "say hello", {}),  # no parameter of the tool
        ("light[s] {text}", "lights low", {"text": "low"}),
        ("light[s] {text}", "lightslow", None),
        ("(now;please) stop", "please now stop", {}),
        ("what's up?", "What’s up?", {}),
        ("well-being", "well-being", {}),
        ("well-being", "well being", None),
        ("caf\u00e9", "Cafe\u0301", {}),
    ],
)
def test_kinds_of_slots_and_pieces(pattern: str, text: str, arguments: dict[str, Any] | None) -> None:
    call = match([compile_reflex(pattern, "note", {})], text, SPECS)
    assert (call.arguments if call else None) == arguments


GERMAN = book(
    "<mach> [<das>] {device} {zustand:state} [bitte]",
    "<mach> [<das>] {device} auf {percent} Prozent {zustand:state}",
    "<das> {device} {sanft:soft} {zustand:state}",
    lists={
        "zustand": {"an": "on", "(ein|ein[zu]schalten)": "on", "aus": "off"},
        "device": {
            "[große[s]] Küchenlicht": "kitchen light",
            "Ventilator": "fan",
            "Straßenlampe": "x_1 lamp",
            "Mond": "moon",
        },
        "percent": {"zwanzig": 20, "viel": "90", "allzu viel": 900},
        "sanft": {"sanft": True, "hart": False},
    },
    rules={"mach": "[bitte] (mach|schalte)[st du]", "das": "(das|den|die)"},
)
FRENCH = book(
    "{verbe:state} (la|le|l') {appareil:device} [s'il te plaît]",
    lists={
        "verbe": {"allume": "on", "éteins": "off"},
        "appareil": {"lumière de la cuisine": "kitchen light", "appareil": "fan", "ventilo": "fan"},
    },
)


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("Bitte mach das Küchenlicht an", {"device": "kitchen light", "state": "on"}),
        ("Schaltest du das große Küchenlicht aus, bitte?", None),
        ("Schaltest du das große Küchenlicht aus bitte?", {"device": "kitchen light", "state": "off"}),
        ("SCHALTE VENTILATOR EIN", {"device": "fan", "state": "on"}),
        ("die straßenlampe hart aus", {"device": "x_1 lamp", "state": "off", "soft": False}),
        ("mach fan einzuschalten", {"device": "fan", "state": "on"}),  # the tool's own word stays good
        ("mach fan off", None),  # a list that is named for itself stands alone
        ("mach den Mond aus", None),  # the list says so, the tool does not
        ("schalte das Küchenlicht auf zwanzig Prozent ein", {"device": "kitchen light", "state": "on", "percent": 20}),
        ("schalte das Küchenlicht auf 20 Prozent ein", {"device": "kitchen light", "state": "on", "percent": 20}),
        ("schalte das Küchenlicht auf viel Prozent ein", {"device": "kitchen light", "state": "on", "percent": 90}),
        ("schalte das Küchenlicht auf allzu viel Prozent ein", None),
        ("Allume la lumière de la cuisine s’il te plaît !", {"device": "kitchen light", "state": "on"}),
        ("éteins l'appareil", {"device": "fan", "state": "off"}),
        ("éteins le ventilo", {"device": "fan", "state": "off"}),
        ("éteins le ventilateur", None),
    ],
)
def test_words_of_any_language_mean_the_tools_values(text: str, arguments: dict[str, Any] | None) -> None:
    call = match([*compile_book(GERMAN), *compile_book(FRENCH)], text, SPECS)
    assert (call.arguments if call else None) == arguments


def test_a_list_bounds_a_slot_that_takes_any_text() -> None:
    reflexes = compile_book(book("tell {who} [that] {text}", tool="note", lists={"who": {"Ann": "Ann", "mum": "Mary"}}))
    call = match(reflexes, "tell MUM that I am late", SPECS)
    assert call is not None and call.arguments == {"who": "Mary", "text": "I am late"}
    assert match(reflexes, "tell Bob that I am late", SPECS) is None


def test_a_plugins_patterns_call_its_own_tool_and_the_first_pattern_wins() -> None:
    [mine] = compile_book(book("lights {state}", plugin="home"))
    [other] = compile_book(book("lights {state}", plugin="shop"))
    specs = {"switch": ToolSpec("switch", "d", {"properties": {"state": {}}}, plugin="home")}
    assert match([other], "lights on", specs) is None
    call = match([other, compile_reflex("lights on", "switch", {"state": "first"}), mine], "lights on", specs)
    assert call is not None and call.arguments == {"state": "first"}


@pytest.mark.parametrize("fixed", [{"percent": True}, {"percent": "much"}, {"percent": 101}, {"soft": "yes"}])
def test_fixed_arguments_are_admitted_too(fixed: dict[str, Any]) -> None:
    reflex = compile_reflex("now", "switch", {"device": "fan", "state": "on", **fixed})
    assert match([reflex], "now", SPECS) is None


@pytest.mark.parametrize("pattern", ["turn {state", "(a|b", "[x", "a) b", "{a} {a}"])
def test_bad_patterns_are_config_errors(pattern: str) -> None:
    with pytest.raises(ConfigError):
        compile_reflex(pattern, "switch", {})


@pytest.mark.parametrize(
    ("bad", "key"),
    [
        (book("fine", "not (fine"), "reflexes.1.pattern"),
        (book("{room:device}"), "reflexes.0.pattern"),
        (book("<the> fan"), "reflexes.0.pattern"),
        (book(rules={"the": "(the"}), "rules.the"),
        (book(rules={"the": "<a>", "a": "<the>"}), "rules.the"),
        (book(lists={"room": {"(a": "a"}}), "lists.room"),
        (book(lists={"room": {"[the] {a}": "a"}}), "lists.room"),
    ],
)
def test_what_cannot_be_read_is_told_by_key_and_file(bad: Phrasebook, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compile_book(Phrasebook(bad.reflexes, bad.lists, bad.rules, "home", "/plugins/home/plugin.toml"))
    assert caught.value.fields == {"file": "/plugins/home/plugin.toml", "key": key}
    assert caught.value.detail.startswith(f"/plugins/home/plugin.toml: {key}: ")


def test_two_hundred_patterns_and_a_thousand_choices_are_fast() -> None:
    names = tuple(f"{colour} lamp {n}" for n in range(250) for colour in ("red", "green", "dark red", "old red"))
    spec = ToolSpec("switch", "d", SWITCH.parameters, grounding={"device": Grounding("choice", names)})
    patterns = [f"(turn|switch{n}) {{state}} [the|my] {{device}} number {n} [please]" for n in range(150)]
    patterns += ["[the] {device} [lamp] {state} [at {percent} percent]"] * 50
    reflexes = compile_book(book(*patterns))
    taken = []
    for n in range(100):
        began = time.perf_counter()
        call = match(reflexes, f"please tell me about the dark red lamp {n} on the wall", {"switch": spec})
        taken.append(time.perf_counter() - began)
        assert call is None
    assert statistics.median(taken) < 0.005
    assert match(reflexes, "the dark red lamp 7 off", {"switch": spec}) is not None
