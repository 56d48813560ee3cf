"""The other side: a plain paho client with its thread, whose messages arrive in a queue of the test's event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

WAIT = 10.0


@dataclass(frozen=True)
class Got:
    """A message. `body` is its JSON."""

    topic: str
    payload: bytes
    retained: bool
    correlation: bytes | None
    content_type: str | None

    @property
    def body(self) -> dict[str, Any]:
        return dict(json.loads(self.payload))


class Peer:
    """A connected client, subscribed to what it was opened with."""

    def __init__(self, client: paho.Client, filters: tuple[str, ...]) -> None:
        self._client = client
        self.filters = filters
        self.messages: asyncio.Queue[Got] = asyncio.Queue()

    @classmethod
    @asynccontextmanager
    async def open(cls, port: int, *filters: str) -> AsyncIterator[Peer]:
        loop = asyncio.get_running_loop()
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        peer = cls(client, filters)
        ready = asyncio.Event()

        def on_connect(*_: Any) -> None:
            client.subscribe([(name, SubscribeOptions(qos=1)) for name in filters])

        def on_message(_c: Any, _u: Any, message: paho.MQTTMessage) -> None:
            found = message.properties
            correlation = getattr(found, "CorrelationData", None)
            kind = getattr(found, "ContentType", None)
            got = Got(message.topic, bytes(message.payload), message.retain, correlation, kind)
            loop.call_soon_threadsafe(peer.messages.put_nowait, got)

        def on_subscribe(*_: Any) -> None:
            loop.call_soon_threadsafe(ready.set)

        client.on_connect, client.on_message, client.on_subscribe = on_connect, on_message, on_subscribe
        await asyncio.to_thread(client.connect, "127.0.0.1", port)
        client.loop_start()
        try:
            async with asyncio.timeout(WAIT):
                await ready.wait()
            yield peer
        finally:
            client.disconnect()
            await asyncio.to_thread(client.loop_stop)

    async def next(self) -> Got:
        async with asyncio.timeout(WAIT):
            return await self.messages.get()

    async def send(self, topic: str, payload: bytes | str, *, qos: int = 1, retain: bool = False, **more: Any) -> None:
        """Until the broker has it. `more`: MQTT 5 properties by paho's names."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        for name, value in more.items():
            setattr(properties, name, value)
        info = self._client.publish(topic, payload, qos, retain, properties)
        await asyncio.to_thread(info.wait_for_publish, WAIT)
        assert info.is_published()
