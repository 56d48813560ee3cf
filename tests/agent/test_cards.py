"""What a reader is shown of a tool."""

from __future__ import annotations

from typing import Any

from edged.agent.cards import Slot, card
from edged.domain.resources import Grounding, ToolSpec


def spec(properties: dict[str, Any], required: list[str], **grounding: Grounding) -> ToolSpec:
    schema = {"type": "object", "properties": properties, "required": required}
    return ToolSpec("setLevel_of-device", "Set a device to a level", schema, grounding=grounding)


def test_a_card_tells_names_kinds_and_choices() -> None:
    properties = {
        "deviceName": {"type": "string"},
        "percent": {"type": "integer", "maximum": 100},
        "mode": {"type": "string", "enum": ["slow", "fast"]},
        "day": {"type": "string", "format": "date"},
    }
    shown = card(spec(properties, ["deviceName", "percent"], deviceName=Grounding("choice", ("lamp", "fan", "pump"))))
    assert shown.head == "set level of device : set a device to a level"
    assert shown.slots == (
        Slot("deviceName", "device name text such as lamp , fan", kind="list", values=("lamp", "fan", "pump")),
        Slot("percent", "percent number", kind="integer", most=100),
        Slot("mode", "mode optional", ("slow", "fast"), "option"),
        Slot("day", "day optional date", kind="date"),
    )
    assert shown.unread == ()


def test_what_cannot_be_read_off_a_sentence_is_told() -> None:
    properties = {
        "tags": {"type": "array"},
        "loud": {"type": "boolean"},
        "size": {"type": "integer", "enum": [1, 2]},
        "note": {"type": "string"},
    }
    shown = card(spec(properties, ["tags", "loud", "note"]))
    assert [slot.name for slot in shown.slots] == ["note"]
    assert shown.unread == ("tags", "loud")


def test_a_long_signature_is_cut_and_what_it_needs_is_told() -> None:
    properties = {f"p{i}": {"type": "string"} for i in range(12)}
    shown = card(spec(properties, ["p1", "p11"]))
    assert len(shown.slots) == 8
    assert shown.unread == ("p11",)
