"""Brokers that die, refuse, are silent or are not there; doors that come and go."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from mosquitto_broker import Mosquitto

from edged.gateway.mqtt import pause

from .mqtt_peer import WAIT, Peer
from .mqtt_site import behind, door


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker to kill."""
    running = Mosquitto(tmp_path).start()
    yield running
    running.kill()


async def test_a_broker_is_killed_and_comes_back(tmp_path: Path, mortal: Mosquitto) -> None:
    async with behind(tmp_path) as site, door(site, mortal.port):
        site.desk.working.clear()
        async with Peer.open(mortal.port, site.replies) as peer:
            await peer.send(site.ask(), "before", CorrelationData=b"1")
            await site.desk.asked.get()
        mortal.kill()
        mortal.start()
        async with Peer.open(mortal.port, site.replies, site.status) as peer:
            assert (await peer.next()).body["state"] == "online"
            site.desk.working.set()
            assert (await peer.next()).body["text"] == "you said before"
            await peer.send(site.ask(), "after")
            assert (await peer.next()).body["text"] == "you said after"


async def test_replies_wait_for_the_next_door_and_requests_wait_at_the_broker(
    tmp_path: Path, mortal: Mosquitto
) -> None:
    async with behind(tmp_path) as site, Peer.open(mortal.port, site.replies) as peer:
        async with door(site, mortal.port):
            site.desk.working.clear()
            await peer.send(site.ask(), "early", CorrelationData=b"1")
            await site.desk.asked.get()
        await peer.send(site.ask(), "meanwhile")
        site.desk.working.set()
        async with asyncio.timeout(WAIT):
            await site.outbox.wait_changed("mqtt", 0)
        assert peer.messages.empty()
        async with door(site, mortal.port, boot=2):
            assert [(await peer.next()).body["text"] for _ in range(2)] == ["you said early", "you said meanwhile"]


async def test_puback_keeps_the_order_of_arrival(tmp_path: Path, broker: Mosquitto) -> None:
    async with behind(tmp_path) as site, Peer.open(broker.port, site.replies) as peer:
        site.desk.taking.clear()
        async with door(site, broker.port):
            await peer.send(site.ask(), "held")
            await peer.send(site.ask("nobody"), "answered at once")
            assert (await peer.next()).body["error"]["code"] == "not_found"
        site.desk.taking.set()
        async with door(site, broker.port, boot=2):
            # The second was answered, but its PUBACK would have overtaken: so it comes again as well.
            again = [(await peer.next()).body["status"] for _ in range(2)]
        assert sorted(again) == ["done", "failed"]


async def test_online_and_offline_are_retained_with_the_boot(tmp_path: Path, broker: Mosquitto) -> None:
    async with behind(tmp_path) as site:
        for boot in (7, 8):
            async with door(site, broker.port, boot=boot) as opened:
                assert opened.status()["last_error"] is None
            async with Peer.open(broker.port, site.status) as late:
                got = await late.next()
            assert (got.retained, got.body["state"], got.body["boot"]) == (True, "offline", boot)


async def test_without_a_broker_it_runs_and_ends(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with behind(tmp_path) as site, door(site, port, online=False) as opened, asyncio.timeout(WAIT):
        while site.meters.snapshot().get("mqtt.links_lost", 0) < 3:
            await asyncio.get_running_loop().run_in_executor(None, lambda: None)
    assert "cannot connect" in opened.status()["last_error"]
    assert opened.status()["connected_since"] is None


async def test_a_broker_that_never_answers_holds_nothing_up(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        silent.setblocking(False)
        port = silent.getsockname()[1]
        async with behind(tmp_path) as site:
            async with door(site, port, online=False, connect_timeout=60.0):
                accepted, _ = await loop.sock_accept(silent)
                begun = loop.time()
            assert loop.time() - begun < 5.0
            accepted.close()
            async with door(site, port, online=False, connect_timeout=0.1) as opened:
                first, _ = await loop.sock_accept(silent)
                second, _ = await loop.sock_accept(silent)
                assert opened.status()["last_error"] == "no answer within 0.1 s"
            first.close()
            second.close()


async def test_garbage_for_a_broker_ends_the_link_alone(tmp_path: Path) -> None:
    async with behind(tmp_path) as site:
        again = asyncio.Event()
        tries = 0

        async def babble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal tries
            tries += 1
            writer.write(
                [b"\x20\x03\x00\x00\x00\x30\x02\xff\xff", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x20\x00"][tries % 3]
            )
            writer.close()
            if tries == 6:
                again.set()

        async with await asyncio.start_server(babble, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with door(site, port, online=False), asyncio.timeout(WAIT):
                await again.wait()


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that lets nobody leave edged/."""
    rules = tmp_path / "acl"
    rules.write_text("topic readwrite edged/#\n")
    running = Mosquitto(tmp_path, f"acl_file {rules}").start()
    yield running
    running.kill()


async def test_a_reply_that_the_broker_never_takes_holds_up_no_other(tmp_path: Path, strict: Mosquitto) -> None:
    async with behind(tmp_path) as site, door(site, strict.port), Peer.open(strict.port, site.replies) as peer:
        await peer.send(site.ask(), "to nowhere", ResponseTopic="secret/answers")
        await peer.send(site.ask(), "to me")
        assert (await peer.next()).body["text"] == "you said to me"
    assert site.meters.snapshot()["mqtt.undeliverable"] == 1


@pytest.mark.parametrize(("attempt", "most"), [(1, 1.0), (2, 2.0), (5, 16.0), (7, 60.0), (5000, 60.0)])
def test_the_pause_grows_to_its_cap(attempt: int, most: float) -> None:
    assert (pause(attempt, 0.0, 1.0, 60.0), pause(attempt, 1.0, 1.0, 60.0)) == (0.0, most)
