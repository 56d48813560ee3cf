"""What is hidden, what passes, and that everything comes back where it was."""

from __future__ import annotations

import pytest

from edged.domain.errors import ConfigError
from edged.escalation.redact import KINDS, Redactor


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("write to ann.lee+x@mail.example.org please", "write to [EMAIL_1] please"),
        ("a@b.co and c@d.co and a@b.co", "[EMAIL_1] and [EMAIL_2] and [EMAIL_1]"),
        ("card 4111 1111 1111 1111.", "card [CARD_1]."),
        ("card 4111-1111-1111-1111", "card [CARD_1]"),
        ("card 378282246310005!", "card [CARD_1]!"),
        ("call +46 70 123 45 67 now", "call [PHONE_1] now"),
        ("call +1 (415) 555-0123", "call [PHONE_1]"),
        ("call (415) 555-0123", "call [PHONE_1]"),
        ("call 415-555-0123.", "call [PHONE_1]."),
        ("call 08-123 456 78 or 0171 2345678", "call [PHONE_1] or [PHONE_2]"),
    ],
)
def test_hidden_and_restored(text: str, hidden: str) -> None:
    redactor = Redactor(KINDS, [text])
    assert redactor.hide(text) == hidden
    assert redactor.restore(hidden) == text


@pytest.mark.parametrize(
    "text",
    [
        "at 10:30 on 2026-11-21",
        "on 21.11.2026, 12:00",
        "order 1042 costs 1,299.00",
        "serial 4111 1111 1111 1112 fails the card check",
        "address 192.168.100.200:8080",
        "set the valve to 0.125 and 100 percent",
        "part number AB-4111111111111111",
        "@home and a@b",
        "[EMAIL_7] is only text",
    ],
)
def test_passes(text: str) -> None:
    redactor = Redactor(KINDS, [text])
    assert redactor.hide(text) == text
    assert redactor.restore(text) == text
    assert redactor.hidden == 0


def test_a_placeholder_that_a_caller_typed_is_never_used() -> None:
    text = "[EMAIL_1] is not me@x.org"
    redactor = Redactor(KINDS, [text])
    assert redactor.hide(text) == "[EMAIL_1] is not [EMAIL_2]"
    assert redactor.restore("[EMAIL_1], [EMAIL_2], [EMAIL_3]") == "[EMAIL_1], me@x.org, [EMAIL_3]"


def test_only_the_kinds_that_are_set() -> None:
    text = "me@x.org, +46 70 123 45 67"
    assert Redactor(("phone",), [text]).hide(text) == "me@x.org, [PHONE_1]"
    assert Redactor((), [text]).hide(text) == text
    with pytest.raises(ConfigError):
        Redactor(("names",))


def test_inside_of_json_values() -> None:
    redactor = Redactor(KINDS)
    value = {"to": ["me@x.org", 5, None], "me@x.org": {"deep": "me@x.org"}}
    hidden = redactor.hide_in(value)
    assert hidden == {"to": ["[EMAIL_1]", 5, None], "me@x.org": {"deep": "[EMAIL_1]"}}
    assert redactor.restore_in(hidden) == value
