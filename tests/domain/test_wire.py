"""What travels survives the journey: through JSON (rows) and msgpack (frames), to an equal value of the same type."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import pytest

from edged.domain import errors
from edged.domain.errors import BadRequest, EdgedError, QueueFull, Unavailable, error_from_wire
from edged.domain.messages import (
    Caller,
    Event,
    Message,
    Priority,
    Reply,
    ReplyStatus,
    Request,
    Stage,
    Tier,
    ToolCall,
    ToolResult,
    Usage,
)
from edged.domain.power import Energy
from edged.domain.resources import Grounding, ToolSpec

CALL = ToolCall("c-0", "check_stock", {"product": "tea", "nested": [1, {"a": None}]})
RESULT = ToolResult("c-0", "check_stock", True, {"quantity": 3}, seconds=0.25)
CALLER = Caller("uid:0", "admin", "mqtt")
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"product": {"type": "string"}}, "required": ["product"]}
THINGS = {
    "request": Request("r", "kiosk", "Is the tea in stock?", Caller("till"), 1.5),
    "request in full": Request(
        *("r", "kiosk", "tee \N{HONEYBEE}", CALLER, 1.5, 9.5, Priority.HIGH, "s", True, True),
        route={"topic": "reply/1", "correlation": "00ff"},
    ),
    "reply": Reply("r", "kiosk", ReplyStatus.ESCALATED, ticket="t", finish_reason="escalated"),
    "reply in full": Reply(
        *("r", "kiosk", ReplyStatus.DONE, "Three.", Tier.MODEL, "stop", "t"),
        error={"code": "beyond_device"},
        tool_calls=(CALL,),
        tool_results=(RESULT, ToolResult("c-1", "x", False, error="no")),
        stages=(Stage("prefill", 0.5), Stage("tool:x", 0.0)),
        usage=Usage(10, 4, 2),
        model="bundled",
        energy=Energy(1.25, "measured"),
    ),
    "message": Message("user", "hello"),
    "message with calls": Message("assistant", "", (CALL,)),
    "message of a tool": Message("tool", "{}", tool_call_id="c-0"),
    "tool": ToolSpec("get_time", "Tell the time", {"type": "object", "properties": {}}),
    "tool in full": ToolSpec(
        *("check_stock", "Check", SCHEMA, "kiosk"),
        grounding={"product": Grounding("choice", ("tea", "rye bread")), "note": Grounding("span")},
        say="{quantity} left",
        say_error="Sorry: {error}",
        idempotent=False,
        timeout=2.5,
        examples=("how many teas?",),
    ),
    "event": Event("clock", "timer", "timer-1", "The timer is done.", 12.5, {"label": "tea"}),
}
ENCODINGS = {
    "json": lambda wire: json.loads(json.dumps(wire)),
    "msgpack": lambda wire: msgpack.unpackb(msgpack.packb(wire), strict_map_key=False),
}
KINDS: list[type[EdgedError]] = [kind for name in errors.__all__ if isinstance(kind := getattr(errors, name), type)]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", THINGS)
def test_there_and_back(name: str, encoding: str) -> None:
    thing: Any = THINGS[name]
    back = type(thing).from_wire(ENCODINGS[encoding](thing.to_wire()))
    assert back == thing
    assert repr(back) == repr(thing)  # enums are enums again and tuples tuples, which equality does not tell


def test_reading_leaves_the_wire_as_it_was() -> None:
    things: list[Any] = list(THINGS.values())
    for thing in things:
        wire = thing.to_wire()
        before = json.dumps(wire)
        type(thing).from_wire(wire)
        assert json.dumps(wire) == before


def test_keys_tell_callers_and_doors_apart() -> None:
    callers = [Caller("a"), Caller("b"), Caller("a", door="mqtt")]
    assert len({Request("same", "x", "t", caller, 0.0).key for caller in callers}) == 3


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_comes_back_as_its_own_kind(kind: type[EdgedError]) -> None:
    back = error_from_wire(json.loads(json.dumps(kind("why", retry_after=0.0, field="text", n=1).to_wire())))
    assert type(back) is kind
    assert (back.detail, back.retry_after, back.fields) == ("why", 0.0, {"field": "text", "n": 1})


def test_codes_are_stable_and_each_is_one_kind() -> None:
    codes = [kind.code for kind in KINDS]
    assert len(set(codes)) == len(codes)
    assert {QueueFull.code, BadRequest.code} == {"queue_full", "bad_request"}
    assert issubclass(QueueFull, Unavailable)
    assert not issubclass(BadRequest, Unavailable)


@pytest.mark.parametrize(
    ("wire", "detail"),
    [({"code": "from_the_future", "detail": "x"}, "x"), ({}, ""), ({"code": None, "fields": None}, "")],
)
def test_an_unknown_code_is_a_plain_error(wire: dict[str, Any], detail: str) -> None:
    back = error_from_wire(wire)
    assert type(back) is EdgedError
    assert (back.detail, back.retry_after, back.fields) == (detail, None, {})


def test_priorities_have_an_order() -> None:
    assert [p.rank for p in (Priority.HIGH, Priority.NORMAL, Priority.LOW)] == [0, 1, 2]
