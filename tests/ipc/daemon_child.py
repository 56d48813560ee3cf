"""A pretended daemon: starts a child, prints its pid, and waits to be killed."""

from __future__ import annotations

import asyncio

from edged.ipc.process import Child


async def main() -> None:
    async with Child("echo_worker", ["deaf"]) as child:
        await child.call("echo")
        print(child.pid, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
