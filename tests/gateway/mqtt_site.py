"""A door with a real store behind it and a real broker in front of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edged.domain.meters import Meters
from edged.gateway.mqtt import MqttDoor
from edged.gateway.schema import MqttSettings
from edged.store.database import Database
from edged.store.outbox import Outbox

from .mqtt_desk import Desk
from .mqtt_peer import Peer


@dataclass
class Site:
    """The door, what is behind it, and its topics."""

    device: str
    desk: Desk
    outbox: Outbox
    meters: Meters
    doors: list[MqttDoor] = field(default_factory=list)

    def ask(self, agent: str = "echo", client: str = "pump") -> str:
        return f"edged/{self.device}/agents/{agent}/request/{client}"

    @property
    def replies(self) -> str:
        return f"edged/{self.device}/agents/+/reply/+"

    @property
    def status(self) -> str:
        return f"edged/{self.device}/status"


def new_device() -> str:
    return f"till-{random.getrandbits(48):x}"


@asynccontextmanager
async def behind(path: Path, device: str | None = None) -> AsyncIterator[Site]:
    """Everything but the door."""
    async with Database.open(path / "edged.db", ballast_bytes=0) as db, Desk.open(db) as desk:
        yield Site(device or new_device(), desk, Outbox(db), Meters())


@asynccontextmanager
async def door(site: Site, port: int, *, boot: int = 1, online: bool = True, **more: Any) -> AsyncIterator[MqttDoor]:
    """A door that is online, unless told not to wait for that."""
    settings = MqttSettings(site.device, "127.0.0.1", port, backoff_base=0.05, backoff_cap=0.1, **more)
    async with MqttDoor(site.desk, site.outbox, settings, boot=boot, meters=site.meters) as opened:
        if online:
            async with Peer.open(port, site.status) as watcher:
                while (await watcher.next()).body != {"state": "online", "boot": boot, "device": site.device}:
                    pass
        yield opened


async def output(*command: str, until: str | None = None) -> tuple[asyncio.subprocess.Process, str]:
    """Start a program; returns its first lines up to one that contains `until`."""
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    seen = ""
    while until is not None and until not in seen:
        line = await process.stdout.readline()
        assert line, seen
        seen += line.decode()
    return process, seen
