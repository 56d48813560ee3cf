"""What outlives one request: events for listeners, the end of the door, its socket file."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path

import pytest

from edged.domain.errors import ConfigError
from edged.domain.messages import Caller, Event, Request
from edged.gateway.listening import listening

from .conftest import Room, Rooms


def event(number: int) -> Event:
    return Event("clock", "timer", f"k{number}", f"timer {number}", 1.0)


async def listener(room: Room) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(room.path)
    writer.write(b"GET /v1/events HTTP/1.1\r\nHost: edged\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def next_event(reader: asyncio.StreamReader) -> str:
    line = await reader.readuntil(b"}\n\n")
    return str(json.loads(line.split(b"data: ")[1])["text"])


async def test_events_wait_for_a_listener_and_reach_all_of_them(room: Room) -> None:
    for number in range(3):
        await room.outbox.emit(event(number), ["http"])
    one, one_end = await listener(room)
    assert [await next_event(one) for _ in range(3)] == ["timer 0", "timer 1", "timer 2"]
    two, two_end = await listener(room)
    # A listener is in when it has its first event; what is emitted before goes to whoever is.
    await room.outbox.emit(event(3), ["http"])
    assert await next_event(one) == "timer 3"
    one_end.close()
    await one_end.wait_closed()
    await room.outbox.emit(event(4), ["http"])
    while await next_event(two) != "timer 4":
        pass
    two_end.close()


async def test_unread_replies_do_not_hold_events_back(room: Room) -> None:
    for number in range(120):
        await room.desk.accept(_durable(number))
        await room.desk.answer("unread")
    await room.outbox.emit(event(0), ["http"])
    reader, writer = await listener(room)
    assert await next_event(reader) == "timer 0"
    writer.close()


def _durable(number: int) -> Request:
    return Request(f"r{number}", "echo", "x", Caller("uid:1"), 1.0, durable=True)


async def test_the_end_lets_work_finish_and_waiting_go(open_room: Rooms) -> None:
    async with asyncio.TaskGroup() as group, open_room(drain=5.0) as room:
        taken = await room.ask(text="x", mode="ticket")
        room.desk.began.clear()
        poll = group.create_task(room.curl(f"{taken.headers['location']}?wait=60"))
        await room.desk.began.wait()
        feed, feed_end = await listener(room)
        room.desk.began.clear()
        work = group.create_task(room.ask("slow", text="finish me"))
        await room.desk.began.wait()
        group.create_task(_release(feed, feed_end, room))
    assert poll.result().status == 202
    assert (work.result().status, work.result().json["text"]) == (200, "finish me")


async def _release(feed: asyncio.StreamReader, feed_end: asyncio.StreamWriter, room: Room) -> None:
    """Only once the listener was sent away, which shows that closing has begun."""
    await feed.read()
    feed_end.close()
    room.desk.go.set()


async def test_work_beyond_the_drain_time_is_refused(open_room: Rooms) -> None:
    async with asyncio.TaskGroup() as group, open_room(drain=0.2) as room:
        work = group.create_task(room.ask("slow", text="never"))
        await room.desk.began.wait()
    assert (work.result().status, work.result().json["code"]) == (503, "unavailable")
    assert room.desk.cancelled.is_set()


async def test_the_socket_file(open_room: Rooms) -> None:
    async with open_room(mode=0o600) as room:
        assert stat.S_IMODE(room.path.stat().st_mode) == 0o600
    assert not room.path.exists()


def test_a_place_is_taken_only_from_the_dead(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with listening(path) as first, pytest.raises(ConfigError), listening(path):
        pytest.fail("the place was taken")
    assert first.fileno() == -1
    with listening(path):
        path.rename(tmp_path / "dead.sock")
    with listening(tmp_path / "dead.sock"):
        pass
    path.write_text("precious")
    with pytest.raises(ConfigError), listening(path):
        pytest.fail("a file was replaced")
    assert path.read_text() == "precious"
    with pytest.raises(ConfigError), listening(tmp_path / "no" / "such" / "x.sock"):
        pytest.fail("there is no such folder")
