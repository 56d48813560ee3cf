"""Talking to systemd through sdnotify: READY, STATUS, WATCHDOG, STOPPING. Without a manager every call does nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import sdnotify

__all__ = ["Systemd"]


class Systemd:
    """The service manager's side of this process."""

    def __init__(self) -> None:
        self._notifier = sdnotify.SystemdNotifier() if os.environ.get("NOTIFY_SOCKET") else None

    @property
    def watchdog_seconds(self) -> float | None:
        """How often at least the manager wants to be told that all is well; None if it does not watch this process."""
        usec, pid = os.environ.get("WATCHDOG_USEC"), os.environ.get("WATCHDOG_PID")
        if not usec or (pid and int(pid) != os.getpid()):
            return None
        return int(usec) / 1e6

    async def feed(self, check: Callable[[], Awaitable[object]]) -> None:
        """Say that all is well, as often as the manager wants, only while the loop turns and `check` comes back."""
        seconds = self.watchdog_seconds
        while seconds is not None:
            await check()
            self.alive()
            await asyncio.sleep(seconds / 3)

    def ready(self, status: str) -> None:
        self._tell(f"READY=1\nSTATUS={status}")

    def status(self, text: str) -> None:
        self._tell(f"STATUS={text}")

    def alive(self) -> None:
        self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        self._tell("STOPPING=1\nSTATUS=draining")

    def _tell(self, message: str) -> None:
        # systemd reads UTF-8, but sdnotify writes Latin-1 and silently drops what that cannot say, READY included
        if self._notifier is not None:
            self._notifier.notify(message.encode().decode("latin-1"))
