"""Bodies out, completions in: tables of what servers really send."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edged.domain.errors import CloudUnreachable
from edged.domain.messages import Message, ToolCall, Usage
from edged.domain.ports import Generation
from edged.domain.resources import ToolSpec
from edged.escalation.chat import (
    BadToolArguments,
    encode,
    error_sentence,
    idempotency_key,
    parse,
    redactor_for,
    retry_after_seconds,
)
from edged.escalation.redact import KINDS, Redactor


def body(message: dict[str, Any], finish: Any = "stop", **rest: Any) -> bytes:
    return json.dumps({"choices": [{"message": message, "finish_reason": finish}], **rest}).encode()


def call(arguments: Any, **rest: Any) -> dict[str, Any]:
    return {"tool_calls": [{"id": "c1", "function": {"name": "check", "arguments": arguments}, **rest}]}


def test_encode_is_the_api_and_hides() -> None:
    messages = (
        Message("user", "tell me@x.org"),
        Message("assistant", "", (ToolCall("c1", "send", {"to": "me@x.org"}),)),
        Message("tool", "sent to me@x.org", tool_call_id="c1"),
    )
    tool = ToolSpec("send", "Send a message", {"type": "object", "properties": {}})
    generation = Generation("local", messages, (tool,), max_tokens=9)
    wire = json.loads(encode(generation, "big", redactor_for(generation, KINDS), "max_completion_tokens"))
    assert wire == {
        "model": "big",
        "messages": [
            {"role": "user", "content": "tell [EMAIL_1]"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "send", "arguments": '{"to": "[EMAIL_1]"}'}}
                ],
            },
            {"role": "tool", "content": "sent to [EMAIL_1]", "tool_call_id": "c1"},
        ],
        "max_completion_tokens": 9,
        "temperature": 0.0,
        "seed": 0,
        "stream": False,
        "tools": [tool.to_openai()],
    }


@pytest.mark.parametrize(
    ("data", "text", "finish"),
    [
        (body({"content": "hi"}), "hi", "stop"),
        (body({"content": "hi"}, "length"), "hi", "length"),
        (body({"content": "hi"}, "content_filter"), "hi", "error"),
        (body({"content": "hi"}, None), "hi", "stop"),
        (body({"content": "hi"}, "eos"), "hi", "stop"),
        (body({"content": None, "refusal": "no"}), "no", "stop"),
        (body({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}), "ab", "stop"),
        (body(call("{}"), "stop"), "", "tool_calls"),
        (body(call("{}"), "function_call"), "", "tool_calls"),
    ],
)
def test_parse(data: bytes, text: str, finish: str) -> None:
    completion = parse(data, Redactor(()), 1.5, "big")
    assert (completion.text, completion.finish_reason) == (text, finish)
    assert (completion.model, completion.decode_seconds) == ("big", 1.5)


@pytest.mark.parametrize(
    ("arguments", "value"), [("", {}), ("  ", {}), (None, {}), ("{}", {}), ('{"a": 1}', {"a": 1}), ({"a": 1}, {"a": 1})]
)
def test_arguments(arguments: Any, value: dict[str, Any]) -> None:
    assert parse(body(call(arguments)), Redactor(()), 0.0, "big").tool_calls == (ToolCall("c1", "check", value),)


@pytest.mark.parametrize("arguments", ["{", "[]", "3", '"x"', "null", "not json", [1], 7])
def test_bad_arguments(arguments: Any) -> None:
    with pytest.raises(BadToolArguments):
        parse(body(call(arguments)), Redactor(()), 0.0, "big")


def test_ids_of_calls_are_made_unique() -> None:
    entry = {"function": {"name": "check", "arguments": "{}"}}
    data = body({"tool_calls": [{"id": "x", **entry}, {"id": "x", **entry}, entry]})
    assert [c.id for c in parse(data, Redactor(()), 0.0, "big").tool_calls] == ["x", "x_1", "call_2"]


def test_values_are_restored_in_text_and_arguments() -> None:
    redactor = Redactor(KINDS)
    redactor.hide("me@x.org")
    data = body({"content": "to [EMAIL_1]", **call('{"to": "[EMAIL_1]"}')})
    completion = parse(data, redactor, 0.0, "big")
    assert completion.text == "to me@x.org"
    assert completion.tool_calls[0].arguments == {"to": "me@x.org"}


def test_usage_and_model() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 5}}
    completion = parse(body({"content": "x"}, usage=usage, model="big-2"), Redactor(()), 0.0, "big")
    assert (completion.usage, completion.model) == (Usage(9, 5, 4), "big-2")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [{}]}',
        b'{"choices": [{"message": "x"}]}',
        b"[" * 100_000,
        body({"content": 5}),
        body({"content": "x"}, "tool_calls"),
        body({"content": "x"}, usage={"prompt_tokens": "many"}),
        body({"tool_calls": ["x"]}),
        body({"tool_calls": 5}),
        body({"tool_calls": [{"function": {"name": ["x"], "arguments": "{}"}}]}),
    ],
)
def test_garbage_is_the_clouds_fault(data: bytes) -> None:
    with pytest.raises(CloudUnreachable) as caught:
        parse(data, Redactor(()), 0.0, "big")
    assert caught.value.fields == {"reason": "malformed", "reached": True}


def test_idempotency_key() -> None:
    key = idempotency_key("r\n1 ü", b"body")
    assert key == idempotency_key("r\n1 ü", b"body")
    assert key.isascii() and key.isprintable() and len(key) < 128
    others = [idempotency_key("r2", b"body"), idempotency_key("r\n1 ü", b"b"), idempotency_key("r\n1 ü", b"body", 1)]
    assert len({key, *others}) == 4


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("1e9", 3600.0),
        ("inf", 3600.0),
        ("Sat, 21 Nov 2026 08:00:30 GMT", 30.0),
        ("Sat, 21 Nov 2020 08:00:30 GMT", 0.0),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, now=1795248000.0) == seconds


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"<html>", ""),
        (b"{}", ""),
        (b'{"error": {"message": "no funds"}}', ": no funds"),
        (b'{"error": "no funds"}', ": no funds"),
        (b'{"error": {"message": "bad key: top-secret"}}', ": bad key: ***"),
        (b'{"error": {"message": "bad key: sk-ab***yz."}}', ": bad key: ***"),
        (b'{"error": {"message": 5}}', ""),
    ],
)
def test_error_sentence(data: bytes, said: str) -> None:
    assert error_sentence(data, "top-secret") == said
