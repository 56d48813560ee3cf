"""Sentence patterns: certain or silent."""

from __future__ import annotations

from typing import Any

import pytest

from edged.agent.reflex import compile_reflex, match
from edged.domain.errors import ConfigError
from edged.domain.resources import Grounding, ToolSpec

SWITCH = ToolSpec(
    "switch",
    "d",
    {
        "type": "object",
        "properties": {"device": {"type": "string"}, "state": {"enum": ["on", "off"]}, "percent": {"type": "integer"}},
        "required": ["device", "state"],
    },
    grounding={"device": Grounding("choice", ("kitchen light", "fan"))},
)
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
        ("fan on at twenty percent please", {"device": "fan", "state": "on", "percent": 20}),
        ("Lights out.", {"device": "kitchen light", "state": "off"}),
        ("turn on the moon", None),
        ("turn on the kitchen light and the fan", None),
        ("turn up the fan", None),
        ("broken fan", None),
        ("", None),
    ],
)
def test_match(text: str, arguments: dict[str, Any] | None) -> None:
    call = match(REFLEXES, text, {"switch": SWITCH})
    assert (call.arguments if call else None) == arguments


@pytest.mark.parametrize("pattern", ["turn {state", "(a|b", "[x", "a) b", "{a} {a}"])
def test_bad_patterns_are_config_errors(pattern: str) -> None:
    with pytest.raises(ConfigError):
        compile_reflex(pattern, "switch", {})
