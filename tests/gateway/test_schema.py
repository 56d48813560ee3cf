"""Bodies: a `Request`, or a `BadRequest` that names the key and repeats no value."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edged.domain.errors import BadRequest
from edged.domain.messages import Caller, Priority
from edged.gateway.schema import HttpAsk, checked_id, parse

CALLER = Caller("uid:1")


def test_all_keys_arrive() -> None:
    body = {
        "text": "is tea in stock?",
        "id": "a-1",
        "deadline_seconds": 5,
        "priority": "high",
        "session": "s",
        "mode": "ticket",
        "escalate": True,
    }
    ask = parse(HttpAsk, json.dumps(body).encode())
    request = ask.request("a-1", "kiosk", CALLER, 100.0, durable=True)
    assert (request.text, request.deadline, request.priority) == ("is tea in stock?", 105.0, Priority.HIGH)
    assert (request.session, request.escalate, request.accepted_at) == ("s", True, 100.0)


def test_text_alone_is_enough() -> None:
    request = parse(HttpAsk, b'{"text": "hi"}').request("x", "kiosk", CALLER, 1.0, durable=False)
    assert (request.deadline, request.priority, request.escalate) == (None, Priority.NORMAL, False)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "text"),
    ({"text": 5}, "text"),
    ({"text": None}, "text"),
    ({"text": ""}, "text"),
    ({"text": " \n\t"}, "text"),
    ({"text": "x", "txet": "y"}, "txet"),
    ({"text": "x", "deadline_seconds": 0}, "deadline_seconds"),
    ({"text": "x", "deadline_seconds": -1}, "deadline_seconds"),
    ({"text": "x", "deadline_seconds": float("nan")}, "deadline_seconds"),
    ({"text": "x", "deadline_seconds": float("inf")}, "deadline_seconds"),
    ({"text": "x", "priority": "urgent"}, "priority"),
    ({"text": "x", "mode": "poll"}, "mode"),
    ({"text": "x", "escalate": "yes"}, "escalate"),
    ({"text": "x", "session": "a b"}, "session"),
    ({"text": "x", "id": 7}, "id"),
]


@pytest.mark.parametrize(("body", "key"), WRONG)
def test_a_wrong_key_is_named(body: dict[str, Any], key: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse(HttpAsk, json.dumps(body).encode())
    assert refused.value.fields == {"key": key}


RUBBISH = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b'{"text": "\xff"}',
    b'{"text": "\\ud800"}',
    b"[" * 60_000,
    b"\x00\x01",
]


@pytest.mark.parametrize("body", RUBBISH, ids=range(len(RUBBISH)))
def test_rubbish_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(BadRequest):
        parse(HttpAsk, body)


def test_values_are_not_repeated() -> None:
    with pytest.raises(BadRequest) as refused:
        parse(HttpAsk, b'{"text": "x", "priority": "card 4111111111111111"}')
    assert "4111" not in str(refused.value.to_wire())


@pytest.mark.parametrize("name", ["", "a/b", "a b", "é", "x" * 129, "a\n", "%2e", "a\ud800"])
def test_an_id_survives_a_url_or_is_refused(name: str) -> None:
    with pytest.raises(BadRequest):
        checked_id(name)


def test_a_good_id_is_kept() -> None:
    assert checked_id("Order-7_a.b:c~d") == "Order-7_a.b:c~d"
