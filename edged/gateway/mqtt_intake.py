"""From a message to an accepted request, and only then to PUBACK, in the order of arrival.

Acceptances run side by side, so that one commit takes many; their acknowledgements do not. What is wrong with a request is
answered and acknowledged: a negative or missing PUBACK would never tell its sender, only bring it here again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from edged.domain.errors import BadRequest, EdgedError, QueueFull
from edged.domain.messages import Reply, ReplyStatus, Request
from edged.domain.meters import Meters
from edged.gateway.access import Access
from edged.gateway.mqtt_client import Inbound, Link, Outbound, PublishRefused
from edged.gateway.mqtt_messages import Address, Route, Topics, encode, failed, read_request, read_route
from edged.gateway.service import Dispatching

__all__ = ["Intake"]

_log = logging.getLogger("edged.mqtt")


class Intake:
    """Takes what links receive. `loose_maximum` bounds the QoS 0 requests at work; `clock` gives Unix seconds."""

    def __init__(
        self,
        dispatcher: Dispatching,
        topics: Topics,
        access: Access,
        meters: Meters,
        *,
        loose_maximum: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._dispatcher = dispatcher
        self._topics = topics
        self._access = access
        self._meters = meters
        self._loose_maximum = loose_maximum
        self._clock = clock
        self._loose = 0

    async def run(self, link: Link) -> None:
        """Until cancelled or the link is lost. QoS 0 requests at work end with it, as their senders agreed to."""
        arrived: asyncio.Queue[tuple[Inbound, asyncio.Task[None]]] = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            group.create_task(_acknowledge(link, arrived), name="mqtt:acknowledge")
            while True:
                message = await link.received.get()
                taking = group.create_task(self._take(link, message), name="mqtt:take")
                if message.qos:
                    arrived.put_nowait((message, taking))

    async def _take(self, link: Link, message: Inbound) -> None:
        address = self._topics.parse(message.topic)
        if address is None:
            _log.warning("a message on %r is no request", message.topic[:200])
            return
        self._meters.count("mqtt.requests")
        route = Route(self._topics.reply(address), message.properties.correlation)
        request_id = (route.correlation or b"").hex()[:128]
        try:
            route = read_route(self._topics, address, message.properties)
            request = self._read(address, message, route)
            request_id = request.id
            reply = await (self._accept(request, message) if message.qos else self._submit(request))
        except EdgedError as error:
            self._meters.count("mqtt.refused")
            await _answer(link, message, route, failed(error, request_id, address.agent))
        else:
            if reply is not None:
                await _answer(link, message, route, reply.to_wire())

    def _read(self, address: Address, message: Inbound, route: Route) -> Request:
        if message.retained:
            raise BadRequest("a request must not be retained: it would be asked again and again", reason="retained")
        caller = self._access.caller(address.caller_id)
        if not message.again:
            self._access.spend(caller)
        self._dispatcher.agent(address.agent)
        now, durable = self._clock(), message.qos > 0
        return read_request(address.agent, caller, message.payload, message.properties, route, now=now, durable=durable)

    async def _accept(self, request: Request, message: Inbound) -> Reply | None:
        """Committed when it returns. A reply only for who asks again; otherwise it comes through the outbox.

        A redelivery by the broker is not asking again: the reply of the first time has gone, or is in the outbox.
        """
        accepted = await self._dispatcher.accept(request)
        if accepted.state != "new":
            self._meters.count("mqtt.duplicates")
        return None if message.again else accepted.reply

    async def _submit(self, request: Request) -> Reply | None:
        """Nothing of it is kept, unless it is escalated: then both replies come through the outbox."""
        if self._loose >= self._loose_maximum:
            raise QueueFull("too many QoS 0 requests at once; use QoS 1 to have them kept", retry_after=1.0)
        self._loose += 1
        try:
            reply = await self._dispatcher.submit(request)
        finally:
            self._loose -= 1
        return None if reply.status is ReplyStatus.ESCALATED else reply


async def _acknowledge(link: Link, arrived: asyncio.Queue[tuple[Inbound, asyncio.Task[None]]]) -> None:
    while True:
        message, taking = await arrived.get()
        await taking
        link.acknowledge(message)


async def _answer(link: Link, message: Inbound, route: Route, body: dict[str, object]) -> None:
    answer = Outbound(route.topic, encode(body, route.kind), route.content_type, route.correlation)
    if message.qos == 0:
        link.publish_loosely(answer)
        return
    try:
        await link.publish(answer)
    except PublishRefused as error:
        _log.warning("the broker refused an answer on %r: %s", route.topic[:200], error)
