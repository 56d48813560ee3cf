"""Calls over a real socket to a real child; and a peer of our own where the child must break the protocol."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from edged.domain.errors import EdgedError, QueueFull
from edged.ipc.channel import Channel, ChannelClosed
from edged.ipc.frames import FrameDecoder, FrameError, encode
from edged.ipc.process import Child

BROKEN: list[Any] = [[], {}, 7, "done", ["done", 1], ["shout", 1, 2], ["fail", 1, "why"], [[]]]
Events = asyncio.Queue[tuple[str, Any]]


@pytest.fixture
async def events() -> Events:
    return asyncio.Queue()


@pytest.fixture
async def child(worker: str, events: Events) -> AsyncIterator[Child]:
    async with Child(worker, on_event=lambda name, data: events.put_nowait((name, data))) as running:
        yield running


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Channel, socket.socket]]:
    """A channel and the other end of its socket."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    channel = await Channel.over(ours)
    with theirs:
        yield channel, theirs
        channel.close()
    await channel.closed


async def test_a_result_comes_back(child: Child) -> None:
    params = {"text": "中文", "raw": b"\x00", "list": [1, None, 0.5]}
    assert await child.call("echo", params) == params


async def test_chunks_come_in_order_and_before_the_result(child: Child) -> None:
    seen: list[int] = []
    assert await child.call("count", 200, seen.append) == "counted"
    assert seen == list(range(200))


async def test_many_calls_at_once_get_their_own_answers(child: Child) -> None:
    answers = await asyncio.gather(*(child.call("echo", n) for n in range(100)))
    assert answers == list(range(100))


async def test_a_large_value_passes_both_ways(child: Child) -> None:
    large = b"x" * (4 << 20)
    assert await child.call("echo", large) == large


async def test_events_need_no_call(child: Child, events: Events) -> None:
    await child.call("tell", {"n": 1})
    assert await events.get() == ("told", {"n": 1})


async def test_an_expected_error_keeps_its_kind(child: Child) -> None:
    with pytest.raises(QueueFull) as caught:
        await child.call("refuse")
    assert (caught.value.retry_after, caught.value.fields) == (2.5, {"limit": 3})


@pytest.mark.parametrize("verb", ["bug", "no_such_verb"])
async def test_a_bug_in_the_child_is_a_plain_error_and_the_child_lives(child: Child, verb: str) -> None:
    with pytest.raises(EdgedError, match=r"a bug|unknown verb") as caught:
        await child.call(verb)
    assert type(caught.value) is EdgedError
    assert await child.call("echo", 1) == 1


async def test_cancelling_reaches_the_child_and_frees_the_channel(child: Child, events: Events) -> None:
    begun = asyncio.Event()
    task = asyncio.ensure_future(child.call("wait", "w", lambda _: begun.set()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await events.get() == ("cancelled", "w")
    assert await child.call("echo", 1) == 1  # what it still sent for the forgotten call was dropped


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x01\xc1",
        *(encode(frame) for frame in BROKEN),
    ],
    ids=repr,
)
async def test_a_peer_that_breaks_the_protocol_is_hung_up_on(data: bytes, pair: tuple[Channel, socket.socket]) -> None:
    channel, peer = pair
    call = asyncio.ensure_future(channel.call("x"))
    loop = asyncio.get_running_loop()
    assert FrameDecoder().feed(await loop.sock_recv(peer, 4096)) == [["call", 1, "x", None]]
    await loop.sock_sendall(peer, data)
    with pytest.raises(ChannelClosed, match="broke the protocol"):
        await call
    await channel.closed
    assert await loop.sock_recv(peer, 1) == b""
    with pytest.raises(ChannelClosed):
        await channel.call("again")


async def test_answers_to_nobody_are_dropped(pair: tuple[Channel, socket.socket]) -> None:
    channel, peer = pair
    call = asyncio.ensure_future(channel.call("x"))
    stray = [
        ["done", 99, 0],
        ["chunk", 99, 0],
        ["event", "e", 0],
        ["chunk", 1, 0],
        ["done", 1, "yes"],
        ["done", 1, "no"],
    ]
    await asyncio.get_running_loop().sock_sendall(peer, b"".join(map(encode, stray)))
    assert await call == "yes"


async def test_a_peer_that_hangs_up_fails_every_call(pair: tuple[Channel, socket.socket]) -> None:
    channel, peer = pair
    calls = [asyncio.ensure_future(channel.call("x")) for _ in range(3)]
    await asyncio.get_running_loop().sock_recv(peer, 1)
    peer.close()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ChannelClosed] * 3


async def test_cancelling_while_the_channel_closes_is_still_a_cancel(pair: tuple[Channel, socket.socket]) -> None:
    channel, peer = pair
    call = asyncio.ensure_future(channel.call("x"))
    await asyncio.get_running_loop().sock_recv(peer, 1)
    channel.close()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_a_value_that_cannot_be_sent_fails_alone(child: Child) -> None:
    with pytest.raises(FrameError):
        await child.call("echo", 2**80)
    assert await child.call("echo", 1) == 1


async def test_a_slow_reader_holds_its_callers_back(pair: tuple[Channel, socket.socket]) -> None:
    """Nothing reads: the first large call fills the socket, a later one waits and can be cancelled."""
    channel, peer = pair
    calls = [asyncio.ensure_future(channel.call("x", b"x" * (1 << 20))) for _ in range(2)]
    assert await asyncio.get_running_loop().sock_recv(peer, 4) != b""
    for call in calls:
        call.cancel()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 2
