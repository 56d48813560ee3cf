"""The HTTP door from outside: what callers get, and what happens when they go."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import pytest

from .conftest import Answer, Room, Rooms, read_answer

ASK = "/v1/agents/echo/requests"


def problem(answer: Answer) -> tuple[int, str]:
    """Status and code, after a look at the shape that every problem has."""
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "code", "detail"} <= answer.json.keys()
    assert answer.json["status"] == answer.status
    return answer.status, answer.json["code"]


def post(body: bytes, *headers: str, path: str = ASK) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: edged", *(headers or (f"Content-Length: {len(body)}",)), "", ""]
    return "\r\n".join(lines).encode() + body


async def test_wait_answers_on_the_connection(room: Room) -> None:
    answer = await room.ask(text="is tea in stock?", priority="high", deadline_seconds=5)
    assert (answer.status, answer.json["text"], answer.json["status"]) == (200, "is tea in stock?", "done")
    [request] = room.desk.requests
    assert (request.caller.id, request.caller.role) == (f"uid:{os.getuid()}", "operator")
    assert request.deadline is not None and not request.durable


async def test_an_escalated_reply_is_202_with_its_ticket(room: Room) -> None:
    answer = await room.ask("cloudy", text="hm")
    assert (answer.status, answer.headers["location"]) == (202, "/v1/requests/t1")


async def test_a_failed_reply_is_still_a_reply(room: Room) -> None:
    answer = await room.ask("failing", text="hm")
    assert (answer.status, answer.json["status"], answer.json["error"]["code"]) == (200, "failed", "tool_failed")


async def test_errors_keep_their_codes(room: Room) -> None:
    assert problem(await room.ask("nobody", text="hm")) == (404, "not_found")
    busy = await room.ask("busy", text="hm")
    assert problem(busy) == (503, "unavailable")
    assert busy.headers["retry-after"] == "3"
    assert problem(await room.curl("/v1/nothing")) == (404, "not_found")
    wrong = await room.curl("/v1/status", "-X", "DELETE")
    assert problem(wrong) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "GET"
    assert problem(await room.curl("/v1/requests/none")) == (404, "not_found")
    assert problem(await room.curl("/v1/requests/a?wait=soon")) == (400, "bad_request")
    assert problem(await room.curl("/v1/requests/a?wait=nan")) == (400, "bad_request")


async def test_a_bug_tells_the_log_and_not_the_caller(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    answer = await room.ask("broken", text="hm")
    assert problem(answer) == (500, "internal")
    assert "secret" not in answer.text
    assert "a secret of the code" in caplog.text
    assert (await room.ask(text="still there")).status == 200


BAD_BODIES: dict[str, bytes] = {
    "empty": b"",
    "cut": b'{"text": "x"',
    "list": b"[]",
    "wrong type": b'{"text": 5}',
    "unknown key": b'{"text": "x", "txet": "y"}',
    "bad utf-8": b'{"text": "\xff\xfe"}',
    "two ids": b'{"text": "x", "id": "a"}',
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_bad_bodies(room: Room, body: bytes) -> None:
    answer = await room.curl(ASK, "-H", "Idempotency-Key: b", "--data-binary", "@-", stdin=body)
    assert problem(answer) == (400, "bad_request")
    assert not room.desk.requests


BAD_HTTP: dict[str, bytes] = {
    "no http": b"hello\r\n\r\n",
    "bad version": b"GET / HTTP/9.9\r\n\r\n",
    "huge header": b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 20_000 + b"\r\n\r\n",
    "bad length": post(b"", "Content-Length: many"),
    "bad chunk": post(b"zz\r\n{}\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
    "two framings": post(b"{}", "Content-Length: 2", "Transfer-Encoding: chunked"),
}


@pytest.mark.parametrize("data", BAD_HTTP.values(), ids=BAD_HTTP.keys())
async def test_bad_http_has_the_same_shape(room: Room, data: bytes) -> None:
    assert problem(read_answer(await room.raw(data))) == (400, "bad_request")
    assert (await room.curl("/healthz")).status == 200


async def test_too_large_announced_or_in_chunks(room: Room) -> None:
    body = json.dumps({"text": "x" * 70_000}).encode()
    for headers in ((), ("-H", "Transfer-Encoding: chunked"), ("-H", "Expect: 100-continue")):
        answer = await room.curl(ASK, *headers, "--data-binary", "@-", stdin=body)
        assert problem(answer) == (413, "too_large")
        assert answer.json["fields"] == {"limit": 65536}


async def test_chunks_without_end_are_cut_off_at_the_limit(room: Room) -> None:
    chunk = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
    data = post(chunk * 20, "Transfer-Encoding: chunked")
    assert problem(read_answer(await room.raw(data))) == (413, "too_large")


async def test_expect_continue_is_honoured(room: Room) -> None:
    answer = await room.curl(ASK, "-H", "Expect: 100-continue", "-d", '{"text": "x"}')
    assert answer.status == 200


async def test_a_body_in_pieces_arrives_and_one_that_stops_times_out(room: Room) -> None:
    reader, writer = await asyncio.open_unix_connection(room.path)
    data = post(b'{"text": "in pieces"}', "Content-Length: 21", "Connection: close")
    for at in range(0, len(data), 7):
        writer.write(data[at : at + 7])
        await writer.drain()
        await asyncio.sleep(0)
    assert read_answer(await reader.read()).json["text"] == "in pieces"
    writer.close()
    assert problem(read_answer(await room.raw(post(b'{"te', "Content-Length: 21")))) == (408, "timeout")


async def test_headers_that_never_end_lose_the_connection(open_room: Rooms) -> None:
    async with open_room(idle=0.2) as room:
        assert await room.raw(b"GET /healthz HT") == b""


async def test_a_caller_that_goes_cancels_its_work(room: Room) -> None:
    for mode in ("wait", "stream"):
        room.desk.began.clear()
        room.desk.cancelled.clear()
        _, writer = await asyncio.open_unix_connection(room.path)
        body = json.dumps({"text": "x", "mode": mode}).encode()
        writer.write(post(body, path="/v1/agents/slow/requests"))
        await room.desk.began.wait()
        writer.close()
        await room.desk.cancelled.wait()


async def test_a_caller_that_goes_does_not_cancel_durable_work(room: Room) -> None:
    _, writer = await asyncio.open_unix_connection(room.path)
    writer.write(post(b'{"text": "x", "id": "a1"}'))
    await room.desk.began.wait()
    writer.close()
    await room.desk.answer("all the same")
    answer = await room.curl("/v1/requests/a1?wait=5")
    assert (answer.status, answer.json["text"]) == (200, "all the same")


def events(text: str) -> list[tuple[str, Any]]:
    """Names and data of a stream of events, in order."""
    blocks = [dict(line.split(": ", 1) for line in block.split("\n")) for block in text.split("\n\n") if block]
    return [(block["event"], json.loads(block["data"])) for block in blocks]


async def stream(room: Room, agent: str, **body: Any) -> list[tuple[str, Any]]:
    data = json.dumps(body | {"mode": "stream"})
    answer = await room.curl(f"/v1/agents/{agent}/requests", "-N", "-d", data)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
    return events(answer.text)


async def test_a_stream_is_tokens_then_the_reply(room: Room) -> None:
    *tokens, (last, reply) = await stream(room, "echo", text="tea is in\u2028stock é")
    assert [(name, data["text"]) for name, data in tokens] == [("token", word) for word in "tea is in stock é".split()]
    assert (last, reply["status"]) == ("reply", "done")


async def test_a_stream_ends_with_an_error(room: Room) -> None:
    [(name, data)] = await stream(room, "busy", text="x")
    assert (name, data["code"], data["retry_after"]) == ("error", "unavailable", 2.5)
    [(name, data)] = await stream(room, "broken", text="x")
    assert (name, data["code"]) == ("error", "internal")


async def test_a_durable_stream_waits_for_its_reply(room: Room) -> None:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(stream(room, "echo", text="x", id="s1"))
        await room.desk.began.wait()
        await room.desk.answer("later")
    assert [(name, data["text"]) for name, data in task.result()] == [("reply", "later")]


async def test_a_repeat_gets_the_same_reply(room: Room) -> None:
    async with asyncio.TaskGroup() as group:
        first = group.create_task(room.ask(text="once", id="k1"))
        await room.desk.began.wait()
        await room.desk.answer("the one answer")
    again = await room.ask(text="once", headers=("Idempotency-Key: k1",))
    assert first.result().status == again.status == 200
    assert first.result().json == again.json
    assert again.json["text"] == "the one answer"
    conflict = await room.ask(text="something else", id="k1")
    assert problem(conflict) == (400, "bad_request")
    assert conflict.json["fields"]["reason"] == "idempotency_conflict"


async def test_a_ticket_is_committed_and_found_later(room: Room) -> None:
    taken = await room.ask(text="x", mode="ticket")
    assert (taken.status, taken.json["status"]) == (202, "pending")
    where = taken.headers["location"]
    assert (await room.curl(where)).status == 202
    async with asyncio.TaskGroup() as group:
        poll = group.create_task(room.curl(f"{where}?wait=10"))
        await room.desk.answer("done now")
    assert (poll.result().status, poll.result().json["text"]) == (200, "done now")


async def test_a_durable_wait_ends_with_patience_and_the_work_does_not(open_room: Rooms) -> None:
    async with open_room(patience=0.1) as room:
        answer = await room.ask(text="x", id="p1")
        assert (answer.status, answer.headers["location"]) == (202, "/v1/requests/p1")
        await room.desk.answer("late")
        assert (await room.curl("/v1/requests/p1")).json["text"] == "late"


async def test_views(room: Room) -> None:
    assert (await room.curl("/v1/status")).json == {"device": "till"}
    assert (await room.curl("/v1/models")).json == {"models": [{"name": "m"}]}
    assert {"name": "echo"} in (await room.curl("/v1/agents")).json["agents"]
    for state, status in (("healthy", 200), ("degraded", 200), ("unhealthy", 503)):
        room.health["state"] = state
        answer = await room.curl("/healthz")
        assert (answer.status, answer.json) == (status, {"state": state, "reasons": []})


async def test_the_rate_is_limited_and_health_is_not(open_room: Rooms) -> None:
    async with open_room(rate=0.01, burst=2) as room:
        assert [(await room.curl("/v1/status")).status for _ in range(2)] == [200, 200]
        refused = await room.ask(text="x")
        assert problem(refused) == (429, "rate_limited")
        assert int(refused.headers["retry-after"]) > 1
        assert (await room.curl("/healthz")).status == 200
