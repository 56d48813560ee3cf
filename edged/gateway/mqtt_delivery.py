"""From the outbox to the broker. A row is delivered when the broker has acknowledged it, and is sent again until then.

So a reply may come twice (a crash between PUBACK and the mark), with the same body and the same correlation data.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

from edged.domain.errors import Unavailable
from edged.domain.meters import Meters
from edged.gateway.mqtt_client import Link, Outbound, PublishRefused
from edged.gateway.mqtt_messages import DOOR, Route, Topics, encode
from edged.store.outbox import Outbox, OutboxRow

__all__ = ["Delivery"]

_log = logging.getLogger("edged.mqtt")

# Reason codes that time can mend: unspecified, implementation specific, quota exceeded. Others say that this message
# will never be taken (no permission, a bad topic).
_PASSING: Final = frozenset({0x80, 0x83, 0x97})
_REST: Final = 5.0


class Delivery:
    """Delivers the rows of this door over one link after another."""

    def __init__(self, outbox: Outbox, topics: Topics, meters: Meters) -> None:
        self._outbox = outbox
        self._topics = topics
        self._meters = meters
        self._settled: set[int] = set()  # the broker has them (or never will), the store does not know yet

    async def run(self, link: Link) -> None:
        """Until cancelled or the link is lost; sleeps while there is nothing to deliver."""
        try:
            while True:
                try:
                    await self._round(link)
                except Unavailable as error:
                    _log.warning("the outbox cannot be used now: %s", error.detail)
                    await asyncio.sleep(error.retry_after or _REST)
        finally:
            with contextlib.suppress(Unavailable):
                await self._note()

    async def _round(self, link: Link) -> None:
        seen = self._outbox.version(DOOR)
        rows = await self._outbox.pending(DOOR, link.window + len(self._settled))
        fresh = [row for row in rows if row.id not in self._settled][: link.window]
        if not fresh and not self._settled:
            await self._outbox.wait_changed(DOOR, seen)
            return
        async with asyncio.TaskGroup() as group:
            sent = [group.create_task(self._send(link, row), name="mqtt:send") for row in fresh]
        await self._note()
        if not all(task.result() for task in sent):
            await asyncio.sleep(_REST)

    async def _note(self) -> None:
        """Nothing is sent again while the disk is full: if this fails, the rows stay in the set."""
        if self._settled:
            done = frozenset(self._settled)
            await self._outbox.delivered(done)
            self._settled -= done

    async def _send(self, link: Link, row: OutboxRow) -> bool:
        """False if the broker says: not now."""
        try:
            await link.publish(self._message(row))
        except PublishRefused as error:
            if error.code in _PASSING:
                _log.warning("the broker has no room for a message: %s", error)
                return False
            self._meters.count("mqtt.undeliverable")
            _log.error("the broker never takes a message to %r: %s", str(row.route.get("topic"))[:200], error)
        else:
            self._meters.count("mqtt.delivered")
        self._settled.add(row.id)
        return True

    def _message(self, row: OutboxRow) -> Outbound:
        if row.kind == "event":
            return Outbound(self._topics.events(str(row.body["source"])), encode(row.body, "json"))
        route = Route.from_wire(row.route)
        return Outbound(route.topic, encode(row.body, route.kind), route.content_type, route.correlation)
