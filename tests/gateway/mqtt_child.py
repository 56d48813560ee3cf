"""A daemon's MQTT half in a process of its own: `mqtt_child.py FILE DEVICE PORT BOOT WHEN` dies by SIGKILL at WHEN.

WHEN: "accepted" (committed, not acknowledged), "delivered" (the broker has the reply, the store does not know it), "never".
Ends at the end of stdin.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

from edged.store.outbox import Outbox

from .mqtt_site import behind, door


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Forgetful(Outbox):
    """Dies before it can note what was delivered."""

    async def delivered(self, ids: Iterable[int]) -> None:
        die()


async def main(directory: str, device: str, port: str, boot: str, when: str) -> None:
    async with behind(Path(directory), device) as site:
        if when == "accepted":
            site.desk.on_accepted = die
        elif when == "delivered":
            site.outbox = Forgetful(site.outbox._db)
        async with door(site, int(port), boot=int(boot)):
            reader = asyncio.StreamReader()
            await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
            await reader.read()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
