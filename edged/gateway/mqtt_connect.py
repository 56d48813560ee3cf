"""How a connection to a broker begins: a paho client with its will and its trust, and the one thread that connecting needs.

Looking up a name, TCP and TLS block in paho. The thread is a daemon: a name server that hangs must not hold up the exit.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable
from typing import Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edged.domain.errors import ConfigError
from edged.gateway.schema import MqttSettings, TlsSettings

__all__ = ["begin", "drop", "new_client", "trust"]

_LARGEST_PACKET: Final = 256 * 1024


class _Closing(ssl.SSLSocket):
    """paho leaves a socket open whose handshake failed."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def trust(tls: TlsSettings | None) -> ssl.SSLContext | None:
    """Whom to believe. Raises `ConfigError` for files that cannot be used."""
    if tls is None:
        return None
    try:
        context = ssl.create_default_context(cafile=tls.ca_file or None)
        if tls.cert_file:
            context.load_cert_chain(tls.cert_file, tls.key_file or None)
        context.sslsocket_class = _Closing
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"mqtt.tls: a certificate or key cannot be used: {error}") from error
    return context


def new_client(settings: MqttSettings, context: ssl.SSLContext | None, will: tuple[str, bytes]) -> paho.Client:
    """A client that has not connected. `will` is topic and payload of what the broker says, retained, when we are gone."""
    client = paho.Client(
        CallbackAPIVersion.VERSION2, client_id=settings.client_id, protocol=paho.MQTTv5, manual_ack=True
    )
    client.max_inflight_messages = 0  # the window is ours
    client.connect_timeout = settings.connect_timeout
    if settings.username:
        client.username_pw_set(settings.username, settings.password or None)
    if context is not None:
        client.tls_set_context(context)
    client.will_set(*will, qos=1, retain=True)
    return client


async def begin(client: paho.Client, settings: MqttSettings) -> None:
    """CONNECT is sent when this returns. Raises `OSError`, and `ValueError` for a name that cannot be one."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = settings.session_expiry
    properties.ReceiveMaximum = settings.receive_maximum
    properties.MaximumPacketSize = _LARGEST_PACKET

    def blocking() -> None:
        client.connect(settings.host, settings.port, settings.keepalive, clean_start=False, properties=properties)

    await _in_thread(blocking, lambda: drop(client))


def drop(client: paho.Client) -> None:
    """Close the socket now, without a word to the broker."""
    client._sock_close()  # it has no public name


async def _in_thread(work: Callable[[], None], undo: Callable[[], None]) -> None:
    """Run `work` in a daemon thread; if nobody waits any more when it ends, `undo` follows there."""
    loop, gate = asyncio.get_running_loop(), threading.Lock()
    done: asyncio.Future[None] = loop.create_future()
    abandoned = finished = False

    def settle(error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        nonlocal finished
        outcome: BaseException | None = None
        try:
            work()
        except BaseException as error:
            outcome = error
        with gate:
            finished = True
            if abandoned:
                undo()
                return
        loop.call_soon_threadsafe(settle, outcome)

    threading.Thread(target=run, name="mqtt:connect", daemon=True).start()
    try:
        await done
    except asyncio.CancelledError:
        with gate:
            abandoned = True
            if finished:
                undo()
        raise
