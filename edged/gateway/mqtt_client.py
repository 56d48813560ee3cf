"""One connection to a broker on asyncio: paho 2 writes and reads the packets, the event loop does the waiting.

Rules:
- A new paho client for each connection. What the broker has not acknowledged is then ours to send again, from the outbox;
  paho would keep its own copy and send that too. The session itself lives in the broker, under the client id.
- Acknowledgements are ours (`manual_ack`): nothing is acknowledged before it is committed.
- paho's callbacks only note what came. They never call paho: its locks are not re-entrant.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edged.gateway.mqtt_connect import begin, drop, new_client
from edged.gateway.mqtt_messages import Properties
from edged.gateway.schema import MqttSettings

__all__ = ["Inbound", "Link", "LinkLost", "Outbound", "PublishRefused"]

_log = logging.getLogger("edged.mqtt")

_LOOSE_WAITING: Final = 256
_FAILURE: Final = 0x80
_WITH_WILL: Final = 0x04
_FLUSH_SECONDS: Final = 1.0


class LinkLost(Exception):
    """The connection could not be made or has ended; a new one is the remedy. Never leaves the door."""


class PublishRefused(Exception):
    """The broker took a message and said no; `code` is the MQTT 5 reason code."""

    def __init__(self, code: int, name: str) -> None:
        super().__init__(f"{name} ({code:#x})")
        self.code = code


@dataclass(frozen=True, slots=True)
class Inbound:
    """A message that came. `packet` is its id for `Link.acknowledge`. `again`: the broker has sent it before (DUP)."""

    topic: str
    payload: bytes
    qos: int
    retained: bool
    again: bool
    packet: int
    properties: Properties


@dataclass(frozen=True, slots=True)
class Outbound:
    """A message to send."""

    topic: str
    payload: bytes
    content_type: str = "application/json"
    correlation: bytes | None = None
    retain: bool = False


class Link:
    """A connection, from CONNACK until it is lost. Make one with `Link.open`; leaving disconnects."""

    def __init__(self, client: paho.Client, settings: MqttSettings) -> None:
        self._loop = asyncio.get_running_loop()
        self._client = client
        self._period = max(settings.keepalive / 4, 0.05)
        self._timer: asyncio.TimerHandle | None = None
        self._connected: asyncio.Future[None] = self._loop.create_future()
        self._waiting: dict[tuple[str, int], asyncio.Future[None]] = {}
        self._lost: asyncio.Future[str] = self._loop.create_future()
        self.received: asyncio.Queue[Inbound] = asyncio.Queue()
        self.session_present = False
        self.window = settings.send_maximum
        self.dropped = 0

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: MqttSettings, context: ssl.SSLContext | None, will: tuple[str, bytes]
    ) -> AsyncIterator[Self]:
        """Connect and continue the session. `will`: topic and payload. Raises `LinkLost`."""
        client = new_client(settings, context, will)
        link = cls(client, settings)
        try:
            async with asyncio.timeout(settings.connect_timeout):
                await begin(client, settings)
                link._attach()
                await link._connected
        except TimeoutError:
            link._close()
            raise LinkLost(f"no answer within {settings.connect_timeout:g} s") from None
        except (OSError, ValueError) as error:
            link._close()
            raise LinkLost(f"cannot connect to {settings.host}:{settings.port}: {error}") from error
        except BaseException:
            link._close()
            raise
        try:
            yield link
        finally:
            await link._disconnect()

    async def lost(self) -> None:
        """Returns never; raises `LinkLost` when the connection ends."""
        raise LinkLost(await asyncio.shield(self._lost))

    async def subscribe(self, topic_filter: str) -> None:
        """At QoS 1; live messages keep their retain flag, retained ones are not sent. Raises `LinkLost`, `PublishRefused`."""
        options = SubscribeOptions(qos=1, retainAsPublished=True, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
        code, packet = self._client.subscribe(topic_filter, options=options)
        await self._answer("subscribe", code, packet)

    async def publish(self, message: Outbound) -> None:
        """At QoS 1; returns when the broker has it. Raises `LinkLost`, `PublishRefused`."""
        await self._answer("publish", *self._send(message, qos=1))

    def publish_loosely(self, message: Outbound) -> None:
        """At QoS 0: gone and forgotten. Raises `LinkLost`."""
        self._send(message, qos=0)

    def acknowledge(self, message: Inbound) -> None:
        """PUBACK; callers keep the order of arrival."""
        self._client.ack(message.packet, message.qos)

    def _send(self, message: Outbound, qos: int) -> tuple[MQTTErrorCode, int]:
        if self._lost.done():
            raise LinkLost(self._lost.result())
        properties = PahoProperties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ContentType = message.content_type
        if message.content_type == "application/json":
            properties.PayloadFormatIndicator = 1
        if message.correlation is not None:
            properties.CorrelationData = message.correlation
        info = self._client.publish(message.topic, message.payload, qos, message.retain, properties)
        return info.rc, info.mid

    async def _answer(self, what: str, code: MQTTErrorCode, packet: int | None) -> None:
        if self._lost.done():
            raise LinkLost(self._lost.result())
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS or packet is None:
            raise LinkLost(f"{what}: {paho.error_string(code)}")
        done = self._waiting[what, packet] = self._loop.create_future()
        try:
            await done
        finally:
            self._waiting.pop((what, packet), None)

    def _attach(self) -> None:
        """From here on the loop watches the socket. The thread that connected is done with the client."""
        client, sock = self._client, self._client.socket()
        if sock is None:
            raise LinkLost("closed while connecting")
        client.on_socket_close = self._on_close
        client.on_socket_register_write = self._on_want_write
        client.on_socket_unregister_write = self._on_no_write
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = lambda _c, _u, packet, reason, _p: self._settle("publish", packet, reason)
        client.on_subscribe = lambda _c, _u, packet, reasons, _p: self._settle("subscribe", packet, reasons[0])
        self._loop.add_reader(sock, self._read)
        if client.want_write():
            self._write()
        self._timer = self._loop.call_later(self._period, self._tick)

    def _read(self) -> None:
        self._guarded(self._client.loop_read)
        # TLS decrypts whole records: what is left in memory never makes the socket readable.
        while isinstance(sock := self._client.socket(), ssl.SSLSocket) and sock.pending():
            self._guarded(self._client.loop_read)

    def _write(self) -> None:
        self._guarded(self._client.loop_write)

    def _tick(self) -> None:
        """Pings when it is time, and notices a broker that does not answer them."""
        self._guarded(self._client.loop_misc)
        if not self._lost.done():
            self._timer = self._loop.call_later(self._period, self._tick)

    def _guarded(self, step: Any) -> None:
        """What paho raises here, it raises over bytes of the broker's: that ends the connection, not the daemon."""
        try:
            code = step()
        except Exception as error:
            _log.warning("broken packet: %r", error)
            self._end(f"broken packet: {error!r}")
            self._close()
            return
        if code not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_AGAIN):
            self._end(paho.error_string(code))

    def _on_close(self, _client: paho.Client, _user: Any, sock: Any) -> None:
        self._loop.remove_reader(sock)
        self._loop.remove_writer(sock)

    def _on_want_write(self, _client: paho.Client, _user: Any, sock: Any) -> None:
        self._loop.add_writer(sock, self._write)

    def _on_no_write(self, _client: paho.Client, _user: Any, sock: Any) -> None:
        self._loop.remove_writer(sock)

    def _on_connect(self, _c: Any, _u: Any, flags: Any, reason: Any, properties: PahoProperties | None) -> None:
        if reason.value >= _FAILURE:
            self._end(f"refused: {reason}")
        elif not self._connected.done():
            self.session_present = flags.session_present
            self.window = min(self.window, getattr(properties, "ReceiveMaximum", self.window))
            self._connected.set_result(None)

    def _on_disconnect(self, _c: Any, _u: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        self._end(str(reason))

    def _on_message(self, _client: Any, _user: Any, message: paho.MQTTMessage) -> None:
        if message.qos == 0 and self.received.qsize() >= _LOOSE_WAITING:
            self.dropped += 1  # QoS 1 is bounded by Receive Maximum, QoS 0 by this alone
            return
        self.received.put_nowait(_inbound(message))

    def _settle(self, what: str, packet: int, reason: ReasonCode) -> None:
        done = self._waiting.get((what, packet))
        if done is None or done.done():
            return
        if reason.value >= _FAILURE:
            done.set_exception(PublishRefused(reason.value, str(reason)))
        else:
            done.set_result(None)

    def _end(self, why: str) -> None:
        if self._lost.done():
            return
        self._lost.set_result(why)
        if not self._connected.done():
            self._connected.set_exception(LinkLost(why))
            self._connected.exception()  # looked at here too: a cancelled opener never does
        for done in self._waiting.values():
            if not done.done():
                done.set_exception(LinkLost(why))

    async def _disconnect(self) -> None:
        """In order, and asking for the will: "offline" is said once, however the connection ends."""
        if not self._lost.done():
            self._client.disconnect(reasoncode=ReasonCode(PacketTypes.DISCONNECT, identifier=_WITH_WILL))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FLUSH_SECONDS):
                    await asyncio.shield(self._lost)
        self._close()

    def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._end("closed")
        drop(self._client)


def _inbound(message: paho.MQTTMessage) -> Inbound:
    try:
        topic = message.topic
    except UnicodeDecodeError:
        topic = ""  # no request of ours
    found = message.properties
    properties = Properties(
        content_type=getattr(found, "ContentType", None),
        response_topic=getattr(found, "ResponseTopic", None),
        correlation=getattr(found, "CorrelationData", None),
        expiry=getattr(found, "MessageExpiryInterval", None),
    )
    payload = bytes(message.payload)
    return Inbound(topic, payload, message.qos, message.retain, message.dup, message.mid, properties)
