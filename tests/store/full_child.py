"""`full_child.py DIR` accepts until the file system in DIR is full, finishes what it took, and, once there is room, goes on.

Runs on a small tmpfs of its own; prints what it found as one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from itertools import count
from pathlib import Path

from edged.domain.errors import StoreUnavailable
from edged.store.database import Database
from edged.store.inbox import Inbox

from .words import NOW, reply, request


async def fill(inbox: Inbox) -> int:
    for number in count():
        try:
            await inbox.accept(request(f"r{number}", text="x" * 8000))
        except StoreUnavailable:
            return number
    raise AssertionError


async def finish_all(inbox: Inbox) -> int:
    finished = 0
    while (one := await inbox.lease(NOW, 60)) is not None:
        finished += await inbox.finish(one, reply(one.id, "y" * 200))
    return finished


async def main(folder: Path) -> dict[str, object]:
    path, filler = folder / "edged.db", folder / "filler"
    async with Database.open(path, ballast_bytes=1 << 20) as db:
        filler.write_bytes(bytes(3 << 19))
        inbox = Inbox(db)
        accepted = await fill(inbox)
        found: dict[str, object] = {"accepted": accepted, "lean": db.lean}
    # a boot on the full disk, with what little is left
    async with Database.open(path, ballast_bytes=1 << 20) as db:
        inbox = Inbox(db)
        await inbox.recover()
        found["finished"] = await finish_all(inbox)
        found["set_aside"] = str(db.set_aside)
        while not db.lean:
            await fill(inbox)
        filler.unlink()
        ballast_file = folder / "edged.db.ballast"
        found["ballast_spent"] = not ballast_file.exists()
        db._ballast._next_look = 0.0  # the time of the next look has come
        found["then"] = (await inbox.accept(request("then"))).state
        found["ballast_made"] = ballast_file.stat().st_size
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(Path(sys.argv[1])))))
