"""What a client says when the daemon is not there, refuses, or is something else."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from edged.cli.client import Client, Stop, problem, server_sent_events

from .conftest import Api, Command


@pytest.mark.parametrize("command", [("status",), ("ask", "desk", "x"), ("ticket", "t"), ("chat", "desk")])
async def test_no_socket(edged: Command, command: tuple[str, ...]) -> None:
    ran = await edged(*command, "--socket", edged.folder / "none", stdin="hello\n")
    assert (ran.status, ran.out, ran.err.count("\n")) == (69, "", 1)
    assert "there is no socket" in ran.err
    assert "edged run --config DIR" in ran.err


async def test_nobody_listens(api: Api, edged: Command) -> None:
    path = api.socket.with_name("dead")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    ran = await edged("status", "--socket", path)
    assert ran.status == 69
    assert "nobody is listening" in ran.err


def test_a_path_too_long_for_a_socket() -> None:
    with pytest.raises(Stop, match="nobody is listening") as caught:
        Client(Path("/tmp") / ("x" * 200)).view("status")
    assert caught.value.status == 69


@pytest.mark.parametrize(
    ("status", "code", "exit_status"),
    [
        (400, "bad_request", 1),
        (404, "not_found", 1),
        (500, "internal", 1),
        (429, "rate_limited", 75),
        (503, "queue_full", 75),
        (504, "deadline_exceeded", 75),
    ],
)
@pytest.mark.parametrize("mode", ["--stream", "--no-stream"])
async def test_problems(api: Api, edged: Command, mode: str, status: int, code: str, exit_status: int) -> None:
    api.refuses(status, code, "Because.")
    ran = await edged("ask", "desk", "x", mode, "--socket", api.socket)
    assert (ran.status, ran.out, ran.err) == (exit_status, "", f"{code}: Because.\n")


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 1, "not JSON"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", 1, "unknown shape"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n\r\nhi", 1, "HTTP 502 Bad Gateway"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", 75, "broke off"),
        (b"SSH-2.0-OpenSSH\r\n", 75, "broke off"),
        (b"", 75, "broke off"),
    ],
)
async def test_something_else_answers(api: Api, edged: Command, answer: bytes, status: int, said: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    path = api.socket.with_name("other")
    async with await asyncio.start_unix_server(serve, path):
        ran = await edged("ask", "desk", "x", "--no-stream", "--socket", path)
    assert (ran.status, ran.out, ran.err.count("\n")) == (status, "", 1)
    assert said in ran.err


async def test_a_silent_daemon(api: Api) -> None:
    api.handle = lambda _: asyncio.Future()
    with pytest.raises(Stop, match="not answered in time") as caught:
        await asyncio.to_thread(Client(api.socket).ask, "desk", {"text": "x"}, 0.2)
    assert caught.value.status == 75


@pytest.mark.parametrize(
    ("lines", "events"),
    [
        ([], []),
        ([b"data: 1\n", b"\n"], [("message", "1")]),
        ([b"event: a\r\n", b"data:1\r\n", b"data: 2\r\n", b"\r\n"], [("a", "1\n2")]),
        ([b": ping\n", b"\n", b"id: 3\n", b"event: a\n", b"data: 1\n", b"\n"], [("a", "1")]),
        ([b"event: a\n", b"\n", b"data: 1\n", b"\n"], [("message", "1")]),
        ([b"data: 1\n", b"\n", b"data: cut"], [("message", "1")]),
        ([b"data:  two: spaces\n", b"\n"], [("message", " two: spaces")]),
    ],
)
def test_server_sent_events(lines: list[bytes], events: list[tuple[str, str]]) -> None:
    assert list(server_sent_events(lines)) == events


def test_a_problem_without_anything_in_it() -> None:
    assert problem({}, 500).line == "error: no reason given"
