"""The MQTT door: requests from topics, replies from the outbox. One connection at a time, and none is needed to run.

While a link stands, three things go on: `Intake` takes requests, `Delivery` empties the outbox, and the link is watched.
When it is lost, all three end; what was not acknowledged comes again from the broker, and goes again from the outbox.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Self

from edged.domain.meters import Meters
from edged.gateway.access import Access
from edged.gateway.mqtt_client import Link, LinkLost, Outbound, PublishRefused
from edged.gateway.mqtt_connect import trust
from edged.gateway.mqtt_delivery import Delivery
from edged.gateway.mqtt_intake import Intake
from edged.gateway.mqtt_messages import DOOR, Topics
from edged.gateway.schema import MqttSettings, checked_name
from edged.gateway.service import Dispatching
from edged.store.outbox import Outbox

__all__ = ["MqttDoor", "pause"]

_log = logging.getLogger("edged.mqtt")

# A link that stood for less counts as one more failure: two daemons with one client id push each other out for ever.
_SETTLED_SECONDS: Final = 30.0


def pause(attempt: int, roll: float, base: float, cap: float) -> float:
    """Seconds before the next connect after failure number `attempt` (from 1); full jitter, `roll` is uniform in [0, 1)."""
    return float(roll * min(cap, base * 2.0 ** min(max(attempt, 1) - 1, 60)))


class MqttDoor:
    """Serves MQTT while entered. `boot` is the number of this start, so that readers of the status can tell old from new.

    Raises `ConfigError` for settings that cannot work; a broker that cannot be reached is not one of them.
    """

    def __init__(
        self,
        dispatcher: Dispatching,
        outbox: Outbox,
        settings: MqttSettings,
        *,
        boot: int,
        meters: Meters | None = None,
        clock: Callable[[], float] = time.time,
        roll: Callable[[], float] = random.random,
    ) -> None:
        checked_name(settings.device, "mqtt.device")
        self._settings = replace(settings, client_id=settings.client_id or f"edged-{settings.device}")
        self._boot = boot
        self._clock = clock
        self._roll = roll
        self._topics = Topics(settings.device)
        self._context = trust(settings.tls)
        self._meters = meters if meters is not None else Meters()
        access = Access(DOOR, rate=settings.rate, burst=settings.burst, roles=settings.roles)
        self._intake = Intake(
            dispatcher, self._topics, access, self._meters, loose_maximum=settings.loose_maximum, clock=clock
        )
        self._delivery = Delivery(outbox, self._topics, self._meters)
        self._group = asyncio.TaskGroup()
        self._living: asyncio.Task[None] | None = None
        self._connected_since: float | None = None
        self._last_error: str | None = None

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        self._living = self._group.create_task(self._live(), name="mqtt:door")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Says "offline" if it is connected."""
        if self._living is not None:
            self._living.cancel()
        await self._group.__aexit__(kind, error, trace)

    def status(self) -> dict[str, Any]:
        """For views. `connected_since` is Unix seconds, or None without a broker."""
        return {
            "broker": f"{self._settings.host}:{self._settings.port}",
            "connected_since": self._connected_since,
            "last_error": self._last_error,
        }

    async def _live(self) -> None:
        attempt = 0
        loop = asyncio.get_running_loop()
        while True:
            begun, why = loop.time(), ""
            try:
                await self._serve()
            except* LinkLost as lost:
                why = _first(lost)
            finally:
                self._connected_since = None
            attempt = 1 if loop.time() - begun > _SETTLED_SECONDS else attempt + 1
            if why != self._last_error:
                _log.warning("mqtt: %s", why)
            self._last_error = why
            self._meters.count("mqtt.links_lost")
            await asyncio.sleep(pause(attempt, self._roll(), self._settings.backoff_base, self._settings.backoff_cap))

    async def _serve(self) -> None:
        """One link, from connect to loss. Always raises."""
        will = (self._topics.status, self._state("offline"))
        async with Link.open(self._settings, self._context, will) as link, asyncio.TaskGroup() as group:
            group.create_task(link.lost(), name="mqtt:link")
            group.create_task(self._intake.run(link), name="mqtt:intake")
            try:
                await link.subscribe(self._topics.requests)
                await link.publish(Outbound(self._topics.status, self._state("online"), retain=True))
            except PublishRefused as error:
                raise LinkLost(f"the broker does not let us subscribe or publish: {error}") from error
            self._connected_since, self._last_error = self._clock(), None
            _log.info("mqtt: connected, session %s", "continued" if link.session_present else "new")
            await self._delivery.run(link)

    def _state(self, state: str) -> bytes:
        return json.dumps({"state": state, "boot": self._boot, "device": self._settings.device}).encode()


def _first(group: BaseExceptionGroup[LinkLost]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)
