"""Topics, payloads and properties, as tables."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import pytest

from edged.domain.errors import BadRequest, TooLarge
from edged.domain.messages import Caller, Request
from edged.gateway.mqtt_messages import Address, Properties, Route, Topics, encode, read_request, read_route

NOW = 1000.0
TOPICS = Topics("till")
ADDRESS = Address("echo", "pump")
OWN = "edged/till/agents/echo/reply/pump"


def read(payload: bytes, **properties: Any) -> Request:
    caller = Caller("pump", door="mqtt")
    return read_request("echo", caller, payload, Properties(**properties), Route(OWN), now=NOW, durable=True)


@pytest.mark.parametrize(
    ("topic", "address"),
    [
        ("edged/till/agents/echo/request/pump", ADDRESS),
        ("edged/till/agents/echo/request/", None),
        ("edged/till/agents//request/pump", None),
        ("edged/other/agents/echo/request/pump", None),
        ("edged/till/agents/echo/reply/pump", None),
        ("edged/till/agents/echo/request/pump/more", None),
        ("", None),
    ],
)
def test_a_topic_names_agent_and_client(topic: str, address: Address | None) -> None:
    assert TOPICS.parse(topic) == address


@pytest.mark.parametrize(
    ("source", "topic"),
    [("clock", "edged/till/events/clock"), ("a/b+c#", "edged/till/events/a_b_c_")],
)
def test_an_event_source_adds_no_levels(source: str, topic: str) -> None:
    assert TOPICS.events(source) == topic


def test_two_clients_never_share_a_key() -> None:
    pairs = [("a:b", "c"), ("a", "b:c"), ("a%3Ab", "c")]
    keys = {Request(i, "x", "t", Caller(Address("x", c).caller_id, door="mqtt"), NOW).key for c, i in pairs}
    assert len(keys) == 3


@pytest.mark.parametrize(
    ("payload", "kind", "text"),
    [
        (b'{"text": "hi"}', None, "hi"),
        (b' {"text": "hi"}', None, "hi"),
        (b'{"text": "hi"}', "application/json", "hi"),
        (b'{"text": "hi"}', "Application/JSON; charset=utf-8", "hi"),
        (b'{"text": "hi"}', "text/plain", '{"text": "hi"}'),
        (b"turn it on", None, "turn it on"),
        ('grüß "dich"\n'.encode(), "text/plain", 'grüß "dich"\n'),
        (msgpack.packb({"text": "hi"}), "application/msgpack", "hi"),
    ],
)
def test_a_payload_is_json_text_or_msgpack(payload: bytes, kind: str | None, text: str) -> None:
    assert read(payload, content_type=kind).text == text


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (b"", None),
        (b"  ", None),
        (b"{", None),
        (b"[]", "application/json"),
        (b'{"text": ""}', None),
        (b'{"text": 5}', None),
        (b'{"text": "x", "color": 1}', None),
        (b'{"text": "x", "priority": "urgent"}', None),
        (b'{"text": "x", "deadline_seconds": 0}', None),
        (b'{"text": "x", "deadline_seconds": NaN}', None),
        (b'{"text": "x", "id": ""}', None),
        (b'{"text": "x", "id": "a/b"}', None),
        (b'{"text": "\\ud800"}', None),
        (b"\xff\xfe", None),
        (b"\xc1", "application/msgpack"),
        (b"\xc4\x01x", "application/msgpack"),
        (b"\x81\xa4text\xc4\x01x", "application/msgpack"),
        (b"[" * 60_000, "application/json"),
        (b"\x91" * 60_000, "application/msgpack"),
        (b"x", "image/png"),
    ],
)
def test_whatever_else_comes_is_a_bad_request(payload: bytes, kind: str | None) -> None:
    with pytest.raises(BadRequest):
        read(payload, content_type=kind)


def test_a_large_payload_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(TooLarge):
        read(b"{" * 65_537)


@pytest.mark.parametrize(
    ("body", "correlation", "known"),
    [({"id": "mine"}, b"\x01", "mine"), ({}, b"\x01\xff", "01ff"), ({}, None, None), ({}, b"", None)],
)
def test_the_id_is_stated_or_the_correlation_or_new(
    body: dict[str, str], correlation: bytes | None, known: str | None
) -> None:
    payload = json.dumps({"text": "x", **body}).encode()
    ids = {read(payload, correlation=correlation).id for _ in range(2)}
    assert ids == {known} if known else len(ids) == 2


@pytest.mark.parametrize(
    ("stated", "expiry", "deadline"),
    [(None, None, None), (5, None, 1005.0), (None, 7, 1007.0), (5, 7, 1005.0), (9, 7, 1007.0), (None, 0, 1000.0)],
)
def test_the_deadline_is_the_earlier_one(stated: int | None, expiry: int | None, deadline: float | None) -> None:
    body = {"text": "x"} if stated is None else {"text": "x", "deadline_seconds": stated}
    assert read(json.dumps(body).encode(), expiry=expiry).deadline == deadline


@pytest.mark.parametrize(
    ("asked", "topic"),
    [(None, OWN), (OWN, OWN), (f"{OWN}/7", f"{OWN}/7"), ("my/answers", "my/answers"), ("edgedish/x", "edgedish/x")],
)
def test_replies_go_where_the_caller_may_choose(asked: str | None, topic: str) -> None:
    assert read_route(TOPICS, ADDRESS, Properties(response_topic=asked)).topic == topic


@pytest.mark.parametrize(
    "asked",
    [
        "edged/till/agents/echo/request/admin",
        "edged/till/status",
        "edged/other/agents/echo/request/pump",
        "edged/till/agents/echo/reply/pumpkin",
        "edged",
        "$SYS/broker",
        "$share/g/x",
        "a/+",
        "a/#",
        "",
        "x" * 2000,
    ],
)
def test_nobody_borrows_our_rights(asked: str) -> None:
    with pytest.raises(BadRequest):
        read_route(TOPICS, ADDRESS, Properties(response_topic=asked))


def test_a_route_survives_the_store() -> None:
    for route in (Route("a/b"), Route("a/b", b"\x00\xff", "msgpack")):
        assert Route.from_wire(json.loads(json.dumps(route.to_wire()))) == route


def test_a_reply_is_written_as_it_was_asked() -> None:
    body = {"text": "grüß"}
    assert json.loads(encode(body, "json")) == body
    assert msgpack.unpackb(encode(body, "msgpack")) == body
    assert b"\\ud800" in encode({"text": "\ud800"}, "json")
