"""Requests and replies through a real broker."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from mosquitto_broker import Mosquitto

from edged.domain.messages import Event

from .mqtt_peer import Peer
from .mqtt_site import Site, behind, door, output


@pytest.fixture
async def site(tmp_path: Path, broker: Mosquitto) -> AsyncIterator[Site]:
    async with behind(tmp_path) as opened, door(opened, broker.port):
        yield opened


@pytest.fixture
async def peer(site: Site, broker: Mosquitto) -> AsyncIterator[Peer]:
    async with Peer.open(broker.port, site.replies, f"answers/{site.device}/#") as opened:
        yield opened


async def test_mosquitto_pub_asks_and_mosquitto_sub_hears(site: Site, broker: Mosquitto) -> None:
    port, answers = str(broker.port), f"answers/{site.device}/1"
    sub = [
        "stdbuf",
        "-oL",
        "mosquitto_sub",
        "-d",
        "-V",
        "5",
        "-p",
        port,
        "-q",
        "1",
        "-C",
        "1",
        "-W",
        "10",
        "-t",
        answers,
    ]
    listening, _ = await output(*sub, "-F", "got %D %p", until="Subscribed")
    properties = ["-D", "publish", "response-topic", answers, "-D", "publish", "correlation-data", "abc"]
    pub = ["mosquitto_pub", "-V", "5", "-p", port, "-q", "1", "-t", site.ask(), "-m", '{"text": "hello"}', *properties]
    publishing, _ = await output(*pub)
    assert await publishing.wait() == 0
    heard, _ = await listening.communicate()
    [line] = [line for line in heard.decode().splitlines() if line.startswith("got")]
    _, correlation, payload = line.split(" ", 2)
    assert correlation == "abc"
    assert json.loads(payload)["text"] == "you said hello"


async def test_a_reply_without_response_topic_goes_to_the_client(site: Site, peer: Peer) -> None:
    await peer.send(site.ask(client="aa:bb"), "plain words")
    got = await peer.next()
    assert got.topic == f"edged/{site.device}/agents/echo/reply/aa:bb"
    assert (got.body["text"], got.body["status"], got.content_type) == (
        "you said plain words",
        "done",
        "application/json",
    )


async def test_msgpack_is_answered_in_msgpack(site: Site, peer: Peer) -> None:
    await peer.send(site.ask(), msgpack.packb({"text": "hi"}), ContentType="application/msgpack")
    got = await peer.next()
    assert got.content_type == "application/msgpack"
    assert msgpack.unpackb(got.payload)["text"] == "you said hi"


async def test_everything_a_caller_may_say_reaches_the_request(site: Site, peer: Peer) -> None:
    body = {"text": "hi", "id": "r1", "priority": "high", "session": "s", "escalate": True, "deadline_seconds": 500}
    before = time.time()
    await peer.send(site.ask(), json.dumps(body), MessageExpiryInterval=60, CorrelationData=b"c")
    request = await site.desk.asked.get()
    assert (request.id, request.priority, request.session, request.escalate) == ("r1", "high", "s", True)
    assert (request.caller.id, request.caller.door, request.durable) == ("pump", "mqtt", True)
    assert request.deadline is not None
    assert 58 < request.deadline - before < 61


@pytest.mark.parametrize(
    ("agent", "payload", "options", "code"),
    [
        ("echo", '{"text": ', {}, "bad_request"),
        ("echo", b"\xff\xff", {}, "bad_request"),
        ("echo", "x" * 70_000, {}, "too_large"),
        ("nobody", "hi", {}, "not_found"),
        ("echo", "hi", {"retain": True}, "bad_request"),
        ("echo", "hi", {"ResponseTopic": "edged/till/agents/echo/request/admin"}, "bad_request"),
        ("echo", "hi", {"ContentType": "image/png"}, "bad_request"),
        ("echo", '{"text": ', {"qos": 0}, "bad_request"),
    ],
)
async def test_what_is_wrong_is_answered_and_acknowledged(
    site: Site, peer: Peer, agent: str, payload: Any, options: dict[str, Any], code: str
) -> None:
    await peer.send(site.ask(agent), payload, CorrelationData=b"c7", **options)
    got = await peer.next()
    assert (got.body["status"], got.body["error"]["code"], got.correlation) == ("failed", code, b"c7")
    assert got.topic == f"edged/{site.device}/agents/{agent}/reply/pump"
    await peer.send(site.ask(), "still there")
    assert (await peer.next()).body["text"] == "you said still there"
    assert await site.desk.inbox.counts() == {"done": 1}
    await peer.send(site.ask(), b"", retain=True)  # what the broker kept of it


async def test_asking_again_is_answered_again_and_done_once(site: Site, peer: Peer) -> None:
    for _ in range(3):
        await peer.send(site.ask(), "hi", CorrelationData=b"\x01")
        got = await peer.next()
        assert (got.body["text"], got.body["request_id"], got.correlation) == ("you said hi", "01", b"\x01")
    assert await site.desk.inbox.counts() == {"done": 1}
    assert site.meters.snapshot()["mqtt.duplicates"] == 2
    await peer.send(site.ask(), "something else", CorrelationData=b"\x01")
    assert (await peer.next()).body["error"]["fields"]["reason"] == "idempotency_conflict"


async def test_qos_0_leaves_nothing_behind(site: Site, peer: Peer) -> None:
    await peer.send(site.ask(), "hi", qos=0)
    assert (await peer.next()).body["text"] == "you said hi"
    assert not (await site.desk.asked.get()).durable
    assert await site.desk.inbox.counts() == {}


async def test_qos_0_is_bounded(site: Site, peer: Peer) -> None:
    site.desk.working.clear()
    for n in range(9):
        await peer.send(site.ask(), str(n), qos=0)
    assert (await peer.next()).body["error"]["code"] == "queue_full"
    site.desk.working.set()
    assert {(await peer.next()).body["text"] for _ in range(8)} == {f"you said {n}" for n in range(8)}


async def test_one_caller_who_floods_is_told(tmp_path: Path, broker: Mosquitto) -> None:
    async with (
        behind(tmp_path) as site,
        door(site, broker.port, rate=0.001, burst=1),
        Peer.open(broker.port, site.replies) as peer,
    ):
        for name in ("a", "a", "b"):
            await peer.send(site.ask(client=name), "hi")
        got = [(await peer.next()) for _ in range(3)]
    assert sorted((g.topic[-1], g.body.get("error", {}).get("code")) for g in got if g.topic.endswith("/b")) == [
        ("b", None)
    ]
    assert sorted(g.body.get("error", {}).get("code", "") for g in got if g.topic.endswith("/a")) == [
        "",
        "rate_limited",
    ]


async def test_events_are_announced(site: Site, broker: Mosquitto) -> None:
    async with Peer.open(broker.port, f"edged/{site.device}/events/+") as peer:
        await site.outbox.emit(Event("clock", "timer", "k1", "Tea is ready", 1.0), ["mqtt"])
        got = await peer.next()
    assert got.topic == f"edged/{site.device}/events/clock"
    assert got.body["text"] == "Tea is ready"


async def test_many_at_once(site: Site, peer: Peer) -> None:
    await asyncio.gather(*(peer.send(site.ask(client=f"c{n % 7}"), f"n{n}") for n in range(120)))
    texts = {(await peer.next()).body["text"] for _ in range(120)}
    assert texts == {f"you said n{n}" for n in range(120)}
    assert peer.messages.empty()


async def test_unacknowledged_requests_are_bounded(tmp_path: Path, broker: Mosquitto) -> None:
    async with (
        behind(tmp_path) as site,
        door(site, broker.port, receive_maximum=2),
        Peer.open(broker.port, site.replies) as peer,
    ):
        site.desk.taking.clear()
        for n in range(5):
            await peer.send(site.ask(), str(n))
        await peer.send(site.ask(client="loose"), "passes", qos=0)
        assert (await peer.next()).topic.endswith("loose")
        assert [(await site.desk.asked.get()).text for _ in range(3)] == ["0", "1", "passes"]
        assert site.desk.asked.empty()
        site.desk.taking.set()
        assert {(await peer.next()).body["text"] for _ in range(5)} == {f"you said {n}" for n in range(5)}
