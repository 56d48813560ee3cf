"""Grammars, judged by llguidance itself over a byte tokenizer: what they admit and what they refuse."""

from __future__ import annotations

from dataclasses import replace

import pytest
from admitting import admits

from edged.agent.bodies import JsonBody
from edged.agent.dialect import DIALECTS, parse
from edged.agent.grammar import choosing, phrasing
from edged.agent.grounding import Offer, ground
from edged.domain.resources import Grounding, ToolSpec

HERMES = replace(DIALECTS["hermes"], body=JsonBody(comma=",", colon=":"))


LEVEL = ToolSpec(
    "set_level",
    "d",
    {
        "type": "object",
        "properties": {
            "device": {"type": "string"},
            "percent": {"type": "integer"},
            "note": {"type": "string"},
            "mode": {"type": "string", "enum": ["soft", "hard"]},
        },
        "required": ["device", "percent"],
    },
    grounding={
        "device": Grounding("choice", ("lamp", "fan")),
        "percent": Grounding("number"),
        "note": Grounding("span"),
    },
)
TIME = ToolSpec("get_time", "d", {"type": "object", "properties": {}})
SAID = 'set the lamp to 30 or 40, "quoted" note'


def call(body: str) -> str:
    return f"<tool_call>\n{body}\n</tool_call>"


@pytest.mark.parametrize(
    ("body", "fits"),
    [
        ('{"name":"set_level","arguments":{"device":"lamp","percent":30}}', True),
        ('{"name":"set_level","arguments":{"device":"lamp","percent":40,"note":"note"}}', True),
        ('{"name":"set_level","arguments":{"device":"lamp","percent":40,"note":"the lamp","mode":"soft"}}', True),
        ('{"name":"set_level","arguments":{"device":"lamp","percent":40,"mode":"hard"}}', True),
        ('{"name":"get_time","arguments":{}}', True),
        ('{"name":"set_level","arguments":{"device":"fan","percent":30}}', False),
        ('{"name":"set_level","arguments":{"device":"lamp","percent":31}}', False),
        ('{"name":"set_level","arguments":{"device":"lamp"}}', False),
        ('{"name":"set_level","arguments":{"device":"lamp","percent":30,"note":"my own words"}}', False),
        ('{"name":"set_level","arguments":{"device":"lamp","percent":30,"mode":"mild"}}', False),
        ('{"name":"get_date","arguments":{}}', False),
        ('{"name":"set_level","missing":["percent"]}', False),
    ],
)
def test_calls(body: str, fits: bool) -> None:
    grammar = choosing([ground(LEVEL, SAID), ground(TIME, SAID)], HERMES)
    assert admits(grammar, call(body)) is fits
    assert admits(grammar, "<escalate>")


def test_a_tool_that_lacks_an_argument_can_be_named_but_not_called() -> None:
    grammar = choosing([ground(LEVEL, "set the lamp")], HERMES, may_escalate=False)
    assert admits(grammar, call('{"name":"set_level","missing":["percent"]}'))
    assert not admits(grammar, call('{"name":"set_level","arguments":{"device":"lamp","percent":1}}'))
    assert not admits(grammar, "<escalate>")
    assert parse(call('{"name":"set_level","missing":["percent"]}'), "c", HERMES).missing == ("percent",)


def test_one_mention_is_not_dealt_twice() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
        "required": ["a", "b"],
    }
    units = Grounding("choice", ("miles", "km"))
    offer = ground(ToolSpec("convert", "d", schema, grounding={"a": units, "b": units}), "miles to km")
    grammar = choosing([offer], HERMES)
    assert admits(grammar, call('{"name":"convert","arguments":{"a":"miles","b":"km"}}'))
    assert admits(grammar, call('{"name":"convert","arguments":{"a":"km","b":"miles"}}'))
    assert not admits(grammar, call('{"name":"convert","arguments":{"a":"km","b":"km"}}'))


def test_only_optional_arguments() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"type": "integer"}}}
    grammar = choosing([ground(ToolSpec("t", "d", schema), "x")], HERMES)
    for arguments, fits in (("{}", True), ('{"b":1}', True), ('{"a":true,"b":1}', True), ('{,"b":1}', False)):
        assert admits(grammar, call(f'{{"name":"t","arguments":{arguments}}}')) is fits


def test_nothing_to_admit_is_an_error() -> None:
    with pytest.raises(ValueError, match="no tools"):
        choosing([], HERMES, may_escalate=False)
    assert admits(choosing([], HERMES), "<escalate>")


def test_a_quote_in_the_request_cannot_leave_the_string() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "string"}}, "required": ["n"]}
    offer: Offer = ground(ToolSpec("t", "d", schema, grounding={"n": Grounding("span")}), 'a ","x":"b')
    grammar = choosing([offer], HERMES)
    assert not admits(grammar, call('{"name":"t","arguments":{"n":"a ","x":"b"}}'))


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("We have 4 left on shelf a3.", True),
        ("4 left.", True),
        ("none", True),
        ("We have 5 left.", False),
        ("We have 44 left.", False),
        ("<tool_call>", False),
    ],
)
def test_phrasing_states_only_known_numbers(text: str, fits: bool) -> None:
    assert admits(phrasing(["4", "a3", "webcam"]), text) is fits


def test_phrasing_without_numbers() -> None:
    assert admits(phrasing(["webcam"]), "The webcam is there.")
    assert not admits(phrasing(["webcam"]), "There are 2.")
