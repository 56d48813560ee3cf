"""ask, ticket and chat against the API's shapes: what is printed where, and with which exit status."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import pytest

from .conftest import ESCALATED, REPLY, Api, Command


def sse(event: str, data: Any) -> str:
    return f"event: {event}\ndata: {json.dumps(data)}\n\n"


async def test_prints_the_answer_alone(api: Api, edged: Command) -> None:
    api.answers(REPLY)
    ran = await edged("ask", "desk", "what time is it", "--socket", api.socket)
    assert (ran.status, ran.out, ran.err) == (0, "It is noon.\n", "")
    assert api.paths == ["POST /v1/agents/desk/requests"]
    assert api.bodies == [{"text": "what time is it", "escalate": False}]


async def test_options_reach_the_body_and_the_socket_comes_from_the_environment(api: Api, edged: Command) -> None:
    api.answers(REPLY)
    edged.environment["EDGED_SOCKET"] = str(api.socket)
    ran = await edged(
        "ask", "a/b", "-", "--escalate", "--deadline", "5", "--id", "k1", "--no-stream", stdin="from stdin"
    )
    assert ran.status == 0
    assert api.paths == ["POST /v1/agents/a%2Fb/requests"]
    assert api.bodies == [{"text": "from stdin", "escalate": True, "deadline_seconds": 5.0, "id": "k1"}]


async def test_verbose_says_tier_stages_and_tokens_on_stderr(api: Api, edged: Command) -> None:
    api.answers(REPLY)
    ran = await edged("ask", "desk", "x", "-v", "--socket", api.socket)
    assert ran.out == "It is noon.\n"
    assert ran.err == "model bundled | prefill 12.3 ms, decode 500.0 ms | 96 prompt tokens (40 cached), 7 made\n"
    api.answers({**REPLY, "energy": {"joules": 1.254, "source": "measured"}})
    ran = await edged("ask", "desk", "x", "-v", "--socket", api.socket)
    assert ran.err.endswith("7 made | 1.25 J measured\n")


async def test_json_is_the_reply_in_one_line(api: Api, edged: Command) -> None:
    api.answers(REPLY)
    ran = await edged("ask", "desk", "x", "--json", "--socket", api.socket)
    assert ran.out.count("\n") == 1
    assert json.loads(ran.out) == REPLY


async def test_a_failure_is_told_once(api: Api, edged: Command) -> None:
    asked = "did you mean to start a timer?"
    failed = {**REPLY, "status": "failed", "text": asked, "error": {"code": "unavailable", "detail": asked}}
    api.answers(failed)
    ran = await edged("ask", "desk", "x", "--socket", api.socket)
    assert ran.out == "" and ran.err.count(asked) == 1
    api.streams(sse("reply", failed))
    ran = await edged("ask", "desk", "x", "--stream", "--socket", api.socket)
    assert ran.out == "" and ran.err.count(asked) == 1


async def test_an_escalated_reply_tells_the_ticket_and_how_to_fetch_it(api: Api, edged: Command) -> None:
    api.answers(ESCALATED, status=202)
    ran = await edged("ask", "desk", "x", "--socket", api.socket)
    assert (ran.status, ran.out) == (0, "That is for the cloud.\n")
    assert "ticket t0123" in ran.err
    assert f"edged ticket t0123 --wait 60 --socket {api.socket}" in ran.err


async def test_ticket_mode_prints_the_ticket_alone(api: Api, edged: Command) -> None:
    api.answers({"request_id": "r9", "status": "pending"}, status=202)
    ran = await edged("ask", "desk", "x", "--ticket", "--socket", api.socket)
    assert (ran.status, ran.out) == (0, "r9\n")
    assert "edged ticket r9" in ran.err
    assert api.bodies[0]["mode"] == "ticket"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"code": "bad_request", "detail": "No."}, 1),
        ({"code": "escalation_expired", "detail": "No."}, 1),
        ({"code": "deadline_exceeded", "detail": "No."}, 75),
        ({"code": "engine_crashed", "detail": "No.", "retry_after": 2.0}, 75),
    ],
)
async def test_a_failed_reply_is_an_error(api: Api, edged: Command, error: dict[str, Any], status: int) -> None:
    api.answers({**REPLY, "status": "failed", "text": "", "error": error})
    ran = await edged("ask", "desk", "x", "--socket", api.socket)
    assert (ran.status, ran.out) == (status, "")
    assert ran.err.startswith(f"{error['code']}: No.")


async def test_a_stream_is_printed_as_it_comes(api: Api, edged: Command) -> None:
    api.streams(
        ": heartbeat\n\n", sse("token", {"text": "It is"}), sse("token", {"text": " noon."}), sse("reply", REPLY)
    )
    ran = await edged("ask", "desk", "x", "--stream", "-v", "--socket", api.socket)
    assert (ran.status, ran.out) == (0, "It is noon.\n")
    assert ran.err.startswith("model bundled")
    assert api.bodies[0]["mode"] == "stream"


@pytest.mark.parametrize(
    ("tokens", "printed"),
    [([], "It is noon.\n"), (["It is"], "It is noon.\n"), (["Let me see"], "Let me see\nIt is noon.\n")],
)
async def test_the_reply_has_the_last_word(api: Api, edged: Command, tokens: list[str], printed: str) -> None:
    api.streams(*(sse("token", {"text": t}) for t in tokens), sse("reply", REPLY))
    ran = await edged("ask", "desk", "x", "--stream", "--socket", api.socket)
    assert ran.out == printed


async def test_an_error_in_a_stream(api: Api, edged: Command) -> None:
    problem = {"status": 504, "code": "deadline_exceeded", "detail": "Too slow.", "retry_after": 3.0}
    api.streams(sse("token", {"text": "It"}), sse("error", problem))
    ran = await edged("ask", "desk", "x", "--stream", "--socket", api.socket)
    assert (ran.status, ran.out) == (75, "It\n")
    assert ran.err == "deadline_exceeded: Too slow. (try again in 3 s)\n"


async def test_a_stream_that_ends_early_is_temporary(api: Api, edged: Command) -> None:
    api.streams(sse("token", {"text": "It"}), "event: reply\ndata: {")
    ran = await edged("ask", "desk", "x", "--stream", "--socket", api.socket)
    assert (ran.status, ran.out) == (75, "It\n")
    assert "before it had answered" in ran.err


@pytest.mark.parametrize("options", [("--stream", "--json"), ("--stream", "--ticket"), ("--deadline", "0")])
async def test_what_does_not_go_together(api: Api, edged: Command, options: tuple[str, ...]) -> None:
    ran = await edged("ask", "desk", "x", *options, "--socket", api.socket)
    assert (ran.status, api.paths) == (2, [])


@pytest.mark.parametrize("mode", ["--stream", "--no-stream"])
async def test_ctrl_c_takes_the_request_back(api: Api, edged: Command, mode: str) -> None:
    if mode == "--stream":
        api.streams(hang=True)
    else:
        api.handle = lambda _: asyncio.Future()
    ran = await edged("ask", "desk", "x", mode, "--socket", api.socket, interrupt=api.reached)
    assert (ran.status, ran.out, ran.err.strip()) == (130, "", "")
    await api.gone.wait()


async def test_a_terminal_gets_the_stream_and_no_escape_sequences(api: Api, edged: Command) -> None:
    text = "red \x1b[31malert\x07"
    api.streams(sse("token", {"text": text}), sse("reply", {**REPLY, "text": text}))
    main, side = os.openpty()
    child = await edged.start("ask", "desk", "x", "--socket", api.socket, stdout=side)
    _, err = await child.communicate()
    os.close(side)
    shown = os.read(main, 4096).decode()
    os.close(main)
    assert (child.returncode, err) == (0, b"")
    assert api.bodies[0]["mode"] == "stream"
    assert shown == "red \N{REPLACEMENT CHARACTER}[31malert\N{REPLACEMENT CHARACTER}\r\n"


async def test_fetching_a_ticket_waits_for_the_final_reply(api: Api, edged: Command) -> None:
    api.answers(ESCALATED, REPLY)
    ran = await edged("ticket", "t0123", "--wait", "5", "--socket", api.socket)
    assert (ran.status, ran.out, ran.err) == (0, "It is noon.\n", "")
    assert [path.partition("?")[0] for path in api.paths] == ["GET /v1/requests/t0123"] * 2


@pytest.mark.parametrize(
    ("body", "said"),
    [(ESCALATED, "waits for the cloud"), ({"request_id": "t0123", "status": "pending"}, "is still being worked on")],
)
async def test_a_ticket_without_an_answer_yet(api: Api, edged: Command, body: dict[str, Any], said: str) -> None:
    api.answers(body, status=202)
    ran = await edged("ticket", "t0123", "--socket", api.socket)
    assert (ran.status, ran.out) == (75, "")
    assert said in ran.err
    assert api.paths == ["GET /v1/requests/t0123?wait=0"]


async def test_a_chat_has_one_session_and_ends_with_quit(api: Api, edged: Command) -> None:
    api.streams(sse("reply", REPLY))
    ran = await edged("chat", "desk", "--socket", api.socket, stdin="hello\n\nagain\n/quit\nnever\n")
    assert (ran.status, ran.out, ran.err) == (0, "It is noon.\nIt is noon.\n", "")
    assert [body["text"] for body in api.bodies] == ["hello", "again"]
    assert len({body["session"] for body in api.bodies}) == 1
    assert api.bodies[0]["session"].startswith("chat-")


async def test_a_chat_ends_with_its_input_and_at_the_first_error_of_a_script(api: Api, edged: Command) -> None:
    api.streams(sse("reply", REPLY))
    assert (await edged("chat", "desk", "--socket", api.socket, stdin="hello")).status == 0
    api.refuses(404, "not_found", "No such agent.")
    ran = await edged("chat", "desk", "--socket", api.socket, stdin="a\nb\n")
    assert (ran.status, ran.err) == (1, "not_found: No such agent.\n")
    assert len(api.bodies) == 2
