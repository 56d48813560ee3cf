"""What requests let arguments be."""

from __future__ import annotations

import pytest

from edged.agent.grounding import ground, implied, mentioned, numbers
from edged.domain.resources import Grounding, ToolSpec

DEVICES = ("kitchen light", "porch light", "light", "ceiling fan", "noise cancelling headphones", "headphones")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("set it to 20%", (20,)),
        ("20c or 5kg", (20, 5)),
        ("1,200 pieces at 3.5 each", (1200, 3.5)),
        ("minus: -4 degrees", (-4,)),
        ("order A42 and 12-7 at 9:30", ()),
        ("twenty five percent", (25,)),
        ("forty-two of them", (42,)),
        ("one hundred and five, please", (105,)),
        ("a hundred", (100,)),
        ("a timer for an hour", ()),
        ("3 of a kind", (3,)),
        ("nothing here", ()),
        ("at 10.", (10,)),
        ("5 and 5", (5,)),
    ],
)
def test_numbers(text: str, expected: tuple[float, ...]) -> None:
    assert numbers(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a timer for an hour", (1,)), ("a couple of webcams", (2,)), ("a dozen", (12,)), ("webcams", ())],
)
def test_implied(text: str, expected: tuple[int, ...]) -> None:
    assert implied(text) == expected


ORDER = ToolSpec(
    "order",
    "d",
    {
        "type": "object",
        "properties": {"product": {"type": "string"}, "quantity": {"type": "integer"}},
        "required": ["product"],
    },
    grounding={"product": Grounding("choice", ("power bank", "4k monitor")), "quantity": Grounding("number")},
)


@pytest.mark.parametrize(
    ("text", "values", "required"),
    [
        ("order two power banks", (2,), True),
        ("order power banks", (), False),
        ("order a power bank", (1,), False),
        ("order a 4k monitor", (1,), False),
        ("order 3 4k monitors", (3,), True),
    ],
)
def test_a_stated_number_is_heeded(text: str, values: tuple[int, ...], required: bool) -> None:
    quantity = ground(ORDER, text).arguments[1]
    assert (quantity.values, quantity.required) == (values, required)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("turn on the kitchen light", ("kitchen light",)),
        ("KITCHEN LIGHTS off!", ("kitchen light",)),
        ("the kitchn light", ("kitchen light",)),
        ("noise canceling headfones", ("noise cancelling headphones",)),
        ("any headphones?", ("headphones",)),
        ("the kitchen one", ("kitchen light",)),
        ("ceiling fan and porch light", ("porch light", "ceiling fan")),
        ("something else", ()),
    ],
)
def test_mentioned(text: str, expected: tuple[str, ...]) -> None:
    assert mentioned(DEVICES, text) == expected


def test_partial_mentions_tie() -> None:
    assert mentioned(("desk lamp", "floor lamp", "radio"), "the lamp") == ("desk lamp", "floor lamp")


def test_the_exact_spelling_wins() -> None:
    assert mentioned(("mile", "miles", "mi", "km", "meter"), "5 miles in km") == ("miles", "km")
    assert mentioned(("mile", "km"), "5 miles in km") == ("mile", "km")


def test_a_choice_without_words_does_not_match_everything() -> None:
    assert mentioned(("°", "the"), "turn it on") == ()


CONVERT = ToolSpec(
    "convert",
    "d",
    {
        "type": "object",
        "properties": {"value": {"type": "number"}, "a": {"type": "string"}, "b": {"type": "string"}},
        "required": ["value", "a", "b"],
    },
    grounding={
        "value": Grounding("number"),
        "a": Grounding("choice", ("miles", "km")),
        "b": Grounding("choice", ("miles", "km")),
    },
)


def test_one_mention_serves_one_parameter() -> None:
    assert ground(CONVERT, "convert 5 miles to km").missing == ()
    assert ground(CONVERT, "convert 5 to km").missing == ("b",)
    assert ground(CONVERT, "convert miles to km").missing == ("value",)


@pytest.mark.parametrize(("text", "admitted"), [("at 50", (50,)), ("at 150", ()), ("at 2.5", ())])
def test_numbers_are_held_to_the_schema(text: str, admitted: tuple[int, ...]) -> None:
    spec = ToolSpec(
        "level",
        "d",
        {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 100}}, "required": ["n"]},
        grounding={"n": Grounding("number")},
    )
    assert ground(spec, text).arguments[0].values == admitted


@pytest.mark.parametrize(
    "text", ["9" * 5000, "1" + "0" * 20, "9" * 400 + ".5", "9007199254740992", "99999999999999999999 an"]
)
def test_a_number_that_nothing_can_carry_is_none(text: str) -> None:
    assert numbers(f"order {text} and 3") == (3,)
    assert numbers(f"order {text}") == ()
