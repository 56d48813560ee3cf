"""Kill -9 of the door between commit and PUBACK, and between PUBACK and the note of it; the broker lives on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mosquitto_broker import Mosquitto

from .mqtt_peer import Peer
from .mqtt_site import behind, new_device

TESTS = Path(__file__).parents[1]


@asynccontextmanager
async def child(path: Path, device: str, port: int, boot: int, when: str) -> AsyncIterator[asyncio.subprocess.Process]:
    command = [sys.executable, "-m", "gateway.mqtt_child", str(path), device, str(port), str(boot), when]
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE, cwd=TESTS)
    assert process.stdin is not None
    try:
        yield process
        if process.returncode is None and when == "never":
            process.stdin.close()
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def state(watcher: Peer, name: str, boot: int) -> None:
    while (await watcher.next()).body != {"state": name, "boot": boot, "device": watcher_device(watcher)}:
        pass


def watcher_device(watcher: Peer) -> str:
    return watcher.filters[0].split("/")[1]


async def test_killed_between_commit_and_puback_it_answers_once(tmp_path: Path, broker: Mosquitto) -> None:
    device = new_device()
    ask = f"edged/{device}/agents/echo/request/pump"
    async with (
        Peer.open(broker.port, f"edged/{device}/status") as watcher,
        Peer.open(broker.port, f"edged/{device}/agents/+/reply/+") as peer,
    ):
        async with child(tmp_path, device, broker.port, 1, "accepted") as process:
            await state(watcher, "online", 1)
            await peer.send(ask, "first", CorrelationData=b"1")
            assert await process.wait() == -9
        await state(watcher, "offline", 1)
        await peer.send(ask, "second", CorrelationData=b"2")
        async with child(tmp_path, device, broker.port, 2, "never"):
            replies = [await peer.next(), await peer.next()]
            await peer.send(ask, "third", CorrelationData=b"3")
            replies.append(await peer.next())
        await state(watcher, "offline", 2)
        assert peer.messages.empty()
    assert [reply.body["text"] for reply in replies] == ["you said first", "you said second", "you said third"]
    async with behind(tmp_path) as site:
        assert await site.desk.inbox.counts() == {"done": 3}


async def test_killed_between_puback_and_the_note_it_says_the_same_again(tmp_path: Path, broker: Mosquitto) -> None:
    device = new_device()
    async with (
        Peer.open(broker.port, f"edged/{device}/status") as watcher,
        Peer.open(broker.port, f"edged/{device}/agents/+/reply/+") as peer,
    ):
        async with child(tmp_path, device, broker.port, 1, "delivered") as process:
            await state(watcher, "online", 1)
            await peer.send(f"edged/{device}/agents/echo/request/pump", "hi", CorrelationData=b"1")
            assert await process.wait() == -9
        first = await peer.next()
        async with child(tmp_path, device, broker.port, 2, "never"):
            assert await peer.next() == first
        await state(watcher, "offline", 2)
        assert peer.messages.empty()
